"""The plain LSTM over support items (Hochreiter, Younger & Conwell 2001; order-invariant as Huisman et al. 2023).

    (h_i, c_i) = lstm([f(x_i), y_i]; h, c) for every support item i,   (h, c) = mean over i of (h_i, c_i),   T passes
    prediction(x) = W h_x + b,   (h_x, .) = lstm([f(x), 0]; h, c)

Learning happens in the recurrent state alone; no weights adapt. Every item is read from the same state, and the means
make the outcome independent of their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.engine.lstm_layers import LSTMLayers, State
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
    """The state after the support: h and c of every layer, [runs, B, units] each."""

    state: tuple[Tensor, ...] = ()


class PlainLSTM(NeuralAgent):
    """An LSTM that reads the support and answers from its state."""

    Config: ClassVar[type[AgentConfig]] = PlainLSTMConfig
    answers_alone = True
    stackable = True
    config: PlainLSTMConfig

    def __init__(self, spec: TaskSpec, config: PlainLSTMConfig) -> None:
        super().__init__(spec, config)
        n, units = spec.n_outputs, config.hidden_size
        self.net = Network(self.body, NoHead(), config.at_once)
        self.lstm = LSTMLayers(self.body.n_features + n, (units,) * config.lstm_layers)
        self.answer = nn.Parameter(torch.empty(1, units, n).uniform_(-(units**-0.5), units**-0.5))  # [runs, units, N]
        self.bias = nn.Parameter(torch.zeros(1, 1, n))

    def adapt(self, support: Split) -> Read:
        """The state after T passes; zeros where S = 0."""
        items, stats = self.encode(support)
        y = items.labels
        targets = F.one_hot(y, self.spec.n_outputs).to(items.x) if self.spec.kind == "classification" else y
        x = torch.cat([items.x, targets], -1)
        state = self._first(x)
        for _ in range(self.config.inner_steps if x.shape[1] else 0):
            _, after = self._read(x, state)
            state = [part.unflatten(1, (-1, x.shape[1])).mean(2) for part in after]
        nothing = x.new_zeros(len(x), 0)
        return Read(nothing, nothing, stats, None, tuple(state))

    def _first(self, x: Tensor) -> State:
        """Zeros for the tasks of x [B, S, D]."""
        return self.lstm.first(x.new_zeros(self.runs, len(x) // self.runs, 0))

    def _read(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """One step of every item of x [B, S, D], each from the state of its task: [runs, b S, units], the states."""
        of_items = [part.unsqueeze(2).expand(-1, -1, x.shape[1], -1).flatten(1, 2) for part in state]
        outputs, after = self.lstm(x.reshape(self.runs, -1, x.shape[-1]), of_items)
        return outputs, after

    def predict(self, adapted: Read, query_x: Tensor) -> Tensor:
        """Scores or values [B, Q, N]."""
        features = self.query_features(self.net, adapted, query_x)
        unknown = features.new_zeros(*features.shape[:2], self.spec.n_outputs)
        outputs, _ = self._read(torch.cat([features, unknown], -1), adapted.state)
        answers: Tensor = (outputs @ self.answer + self.bias).view(unknown.shape)
        return answers
