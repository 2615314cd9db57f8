"""OP-LSTM (Huisman, Moerland, Plaat & van Rijn 2023): an LSTM whose outputs, times layer inputs, change the weights.

    W_l' = W_l + gamma D_l / |D|,   D_l = mean over the support of o_l a_(l-1)^T                (outer products)
    o_L = lstm(y, prediction),   o_l = lstm'(a_l, (o_(l+1) W_(l+1)))  for the layers below, unit by unit

a_l are a layer's activations, a_0 the items, |D| the norm of all layers' D_l together. The recurrent states of every
item and unit are kept from step to step; the LSTMs are shared by all units. With o_L the error and o_l the message
where a_l > 0 it is gradient descent in steps of length gamma. Biases do not adapt. What adapts is a whole MLP
(agent.body=adapted), or a head on the features of any network.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.engine.lstm_layers import LSTMLayers, State
from agents.networks import FeatureBody, LinearHead, MLPBody, Network, replaced, unpack
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class OPLSTMConfig(NeuralConfig):
    """Settings of OP-LSTM."""

    inner_steps: BoundedInt = Field(3, ge=1, description="T, passes over the support in meta-training")
    eval_steps: BoundedInt | None = Field(
        None, ge=0, description="passes over the support in validation and test; default inner_steps"
    )
    lstm_units: tuple[Annotated[BoundedInt, Field(ge=1)], ...] = Field(
        (20,),
        min_length=1,
        description="units of the LSTMs' layers before the last, which has one (published: 40, 20 for images)",
    )
    step_size: float = Field(0.025, gt=0, description="gamma, length of a step, at first; it is learned")
    body: Literal["adapted", "learned", "frozen"] = Field(
        "learned", description="the network below the head: adapted (an MLP only), learned, or frozen"
    )

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Sine: as published, the whole MLP in 9 passes. Images: steps that left chance sooner here than 0.025."""
        if spec.kind == "regression":
            return {"body": "adapted", "inner_steps": 9, "lstm_units": (5, 5), "meta_batch": 1}
        return super().paper(spec, n_shot) | {"step_size": 0.3, "meta_batch": 4 if n_shot < 5 else 2}


class OPLSTM(NeuralAgent):
    """OP-LSTM from learned first weights."""

    Config: ClassVar[type[AgentConfig]] = OPLSTMConfig
    answers_alone = True
    stackable = True
    config: OPLSTMConfig

    def __init__(self, spec: TaskSpec, config: OPLSTMConfig) -> None:
        super().__init__(spec, config)
        if not isinstance(self.body, MLPBody | FeatureBody):
            raise FewShotError(
                "agent.body=adapted is for an MLP: op-lstm needs the inputs of every layer that adapts; use "
                "agent.body=learned, where the head adapts, or agent.network=mlp"
            )
        self.net = Network(self.body, LinearHead(self.body.n_features, spec.n_outputs), config.at_once)
        self.layers = self.net.matrices()
        self.initialization = nn.Parameter(self.net.init().unsqueeze(0))  # [runs, P]
        self.of_output = LSTMLayers(2, (*config.lstm_units, 1))
        self.of_hidden = LSTMLayers(2, (*config.lstm_units, 1)) if len(self.layers) > 1 else None
        self.step_size = nn.Parameter(torch.full((1, 1), config.step_size))  # [runs, 1]

    def adapt(self, support: Split) -> Adapted:
        """Weights after T passes over the support; the first weights where S = 0."""
        items, stats = self.encode(support)
        config, (tasks, size) = self.config, items.x.shape[:2]
        params = self.initialization.repeat_interleave(tasks // self.runs, 0)
        steps = config.inner_steps if self.training or config.eval_steps is None else config.eval_steps
        targets = items.labels
        if self.spec.kind == "classification":
            targets = F.one_hot(targets, self.spec.n_outputs).to(items.x)
        states: list[State] = [[] for _ in self.layers]
        losses = []
        for _ in range(steps if size else 0):
            acts = self._activations(params, items.x.flatten(2))
            losses.append(self.spec.loss(acts[-1], items.labels).detach())
            params = self._changed(params, acts, targets, states)
        past = torch.stack(losses, 1) if losses else params.new_zeros(tasks, 0)
        return Adapted(params, past, stats)

    def _activations(self, params: Tensor, x: Tensor) -> list[Tensor]:
        """The items [B, S, F], and what every layer makes of them; the last are the predictions."""
        named, acts = unpack(params, self.net.shapes), [x]
        for i, (weight, bias) in enumerate(self.layers.items()):
            assert bias is not None
            z = torch.baddbmm(named[bias].unsqueeze(1), acts[-1], named[weight].mT)
            acts.append(z.relu() if i + 1 < len(self.layers) else z)
        return acts

    def _changed(self, params: Tensor, acts: list[Tensor], targets: Tensor, states: list[State]) -> Tensor:
        """Weights after one pass; the states are replaced."""
        named, changes = unpack(params, self.net.shapes), {}
        lstm, inputs = self.of_output, torch.stack([targets, acts[-1]], -1)
        for i, weight in reversed(list(enumerate(self.layers))):
            x = inputs.reshape(self.runs, -1, 2)  # every item and unit is a row
            rows, states[i] = lstm(x, states[i] or lstm.first(x))
            outputs = rows.view(inputs.shape[:-1])
            changes[weight] = outputs.mT @ acts[i] / outputs.shape[1]
            if i:
                assert self.of_hidden is not None
                lstm, inputs = self.of_hidden, torch.stack([acts[i], outputs @ named[weight]], -1)
        whole = replaced(torch.zeros_like(params), self.net.shapes, changes)
        return params + self.step_size.repeat_interleave(len(params) // self.runs, 0) * F.normalize(whole, dim=1)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Predictions [B, Q, N] with the adapted weights."""
        return self.predict_with(self.net, adapted, query_x)
