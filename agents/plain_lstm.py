"""The plain LSTM over support items (Hochreiter, Younger & Conwell 2001; order-invariant as Huisman et al. 2023).

    (h_i, c_i) = lstm([f(x_i), y_i]; h, c) for every support item i,   (h, c) = mean over i of (h_i, c_i),   T passes
    prediction(x) = W h_x + b,   (h_x, .) = lstm([f(x), 0]; h, c)

Learning happens in the recurrent state alone; no weights adapt. Every item is read from the same state, and the means
make the outcome independent of their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.networks import Network
from agents.networks.heads import NoHead
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec


class PlainLSTMConfig(NeuralConfig):
    """Settings of the plain LSTM."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network f: learned in meta-training, or frozen (keeps its first weights)"
    )
    inner_steps: BoundedInt = Field(4, ge=1, description="T, passes over the support")
    hidden_size: BoundedInt = Field(40, ge=1, description="units of each LSTM layer")
    lstm_layers: BoundedInt = Field(2, ge=1, description="LSTM layers")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """4 tasks per step, as published for sine."""
        return super().paper(spec, n_shot) | {"meta_batch": 4}


@dataclass(frozen=True)
class Read(Adapted):
    """The state after the support: h and c of every layer, [layers, B, hidden] each."""

    state: tuple[Tensor, Tensor] | None = None


class PlainLSTM(NeuralAgent):
    """An LSTM that reads the support and answers from its state."""

    Config: ClassVar[type[AgentConfig]] = PlainLSTMConfig
    answers_alone = True
    config: PlainLSTMConfig

    def __init__(self, spec: TaskSpec, config: PlainLSTMConfig) -> None:
        super().__init__(spec, config)
        self.net = Network(self.body, NoHead(), config.at_once)
        self.lstm = nn.LSTM(self.body.n_features + spec.n_outputs, config.hidden_size, config.lstm_layers)
        self.answer = nn.Linear(config.hidden_size, spec.n_outputs)

    def adapt(self, support: Split) -> Read:
        """The state after T passes; zeros where S = 0."""
        items, stats = self.encode(support)
        y = items.labels
        targets = F.one_hot(y, self.spec.n_outputs).to(items.x) if self.spec.kind == "classification" else y
        x, (tasks, size) = torch.cat([items.x, targets], -1), y.shape[:2]
        zeros = x.new_zeros(self.config.lstm_layers, tasks, self.config.hidden_size)
        state = (zeros, zeros)
        for _ in range(self.config.inner_steps if size else 0):
            _, (h, c) = self._read(x, state)
            state = (h.unflatten(1, (tasks, size)).mean(2), c.unflatten(1, (tasks, size)).mean(2))
        nothing = x.new_zeros(tasks, 0)
        return Read(nothing, nothing, stats, None, state)

    def _read(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One LSTM step of every item of x [B, S, D], each from the state of its task."""
        h, c = (part.repeat_interleave(x.shape[1], 1) for part in state)
        outputs, after = self.lstm(x.reshape(1, -1, x.shape[-1]), (h, c))
        return outputs.view(*x.shape[:2], -1), after

    def predict(self, adapted: Read, query_x: Tensor) -> Tensor:
        """Scores or values [B, Q, N]."""
        assert adapted.state is not None
        features = self.query_features(self.net, adapted, query_x)
        unknown = features.new_zeros(*features.shape[:2], self.spec.n_outputs)
        if not features.shape[1]:
            return unknown
        outputs, _ = self._read(torch.cat([features, unknown], -1), adapted.state)
        answers: Tensor = self.answer(outputs)
        return answers
