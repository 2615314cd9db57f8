"""TURTLE (paper, Sect. 4.3): a stateless feed-forward network proposes the update of every weight.

    theta^(t+1) = theta^(t) + alpha * g_phi(I^(t))                                                    (Eq. 7)

I^(t) [P, d] has one row per weight: its gradient, and by choice a moving average of its past
gradients or updates (Eq. 6), the support loss, the step number. alpha holds one learned rate per weight.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.charts import Chart, proposals
from agents.engine.inner_loop import UpdateRule
from agents.engine.native import NativeStep
from agents.gradient_based import INNER_CLIP, TASK_CLIP, GradientBased, GradientBasedConfig, published_clip
from agents.kernels.coordinates import feedforward, feedforward_layers, feedforward_size
from agents.networks import Network
from fewshot_env.episode import Split, TaskSpec


class TurtleConfig(GradientBasedConfig):
    """Settings of TURTLE (paper, Appendix)."""

    meta_batch: BoundedInt = Field(
        2, ge=1, description="tasks per outer step; their losses are summed (Algorithm 1, line 11)"
    )
    inner_clip: float | None = published_clip(INNER_CLIP)
    task_clip: float | None = published_clip(TASK_CLIP)
    hidden_layers: int = Field(5, ge=0, le=1000, description="ReLU layers of the meta-network (Fig. 3 varies 1 to 6)")
    hidden_units: BoundedInt = Field(20, ge=1, description="units per hidden layer of the meta-network")
    history: Literal["none", "gradients", "updates"] = Field(
        "gradients", description="moving average among the inputs (Eq. 6)"
    )
    beta: float = Field(0.9, ge=0, le=1, description="decay of the moving average")
    time_input: bool = Field(True, description="the step number t among the inputs")
    loss_input: bool = Field(False, description="the support loss among the inputs (a constant)")
    learned_rates: bool = Field(True, description="one learned rate alpha per weight, U[0, 1) at first; else 1")
    per_layer: bool = Field(False, description="one meta-network per layer of the base learner; else one for all")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Sine: T = 1. Images: T = 5."""
        if spec.kind == "regression":
            return {"inner_steps": 1}
        return super().paper(spec, n_shot) | {"inner_steps": 5}


class TurtleState(NamedTuple):
    """Moving average [B, P] and the previous update [B, P]; None before the first step."""

    average: Tensor | None
    update: Tensor | None


class TurtleRule(nn.Module):
    """g_phi and alpha for a base learner whose layers lie at `layers` in the flat weights."""

    def __init__(self, config: TurtleConfig, layers: dict[str, slice]) -> None:
        super().__init__()
        self.config = config
        self.layers = list(layers.values()) if config.per_layer else [slice(0, None)]
        self.names = [f"/{name}" for name in layers] if config.per_layer else [""]
        n_inputs = 1 + (config.history != "none") + config.time_input + config.loss_input
        self.networks = nn.ModuleList(MetaNetwork(n_inputs, config) for _ in self.layers)
        n_params = max(where.stop for where in layers.values())
        self.rates = nn.Parameter(torch.rand(1, n_params)) if config.learned_rates else None  # [runs, P]

    def init(self, params: Tensor) -> TurtleState:
        """No history yet."""
        return TurtleState(None, None)

    def forward(
        self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: TurtleState
    ) -> tuple[Tensor, TurtleState]:
        """Eq. 7 for weights and gradients [B, P] and losses [B]."""
        average = self._average(grads, state)
        inputs = self._inputs(grads, average, loss, step)
        update = torch.cat([net(inputs[..., w]) for net, w in zip(self.networks, self.layers, strict=True)], -1)
        if self.rates is not None:
            runs = len(self.rates)
            update = (self.rates.unsqueeze(1) * update.unflatten(0, (runs, -1))).flatten(0, 1)
        return params + update, TurtleState(average, update if self.config.history == "updates" else None)

    def native_step(self) -> NativeStep | None:
        """The same as a kernel takes it; None with a meta-network for each layer."""
        c = self.config
        if c.per_layer:
            return None
        history = ("none", "gradients", "updates").index(c.history)
        numbers = c.hidden_layers, c.hidden_units, history, c.beta, c.time_input, c.loss_input
        network = self.networks[0]
        assert isinstance(network, MetaNetwork)
        return NativeStep("turtle", tuple(map(float, numbers)), (network.weights, self.rates))

    def response(self, grads: Tensor, losses: Tensor) -> list[Tensor]:
        """What each meta-network proposes, without the rates, for gradients [1, n] that stay the same: [T, n] each.

        losses [T]: the support loss at every step. Of constant gradients the moving average is the gradient itself;
        that of updates is taken as zero.
        """
        average = {"none": None, "gradients": grads, "updates": torch.zeros_like(grads)}[self.config.history]
        inputs = [self._inputs(grads, average, loss.view(1), step) for step, loss in enumerate(losses)]
        return [net(torch.cat(inputs, 1)) for net in self.networks]

    def _inputs(self, grads: Tensor, average: Tensor | None, loss: Tensor, step: int) -> Tensor:
        """I^(t) [d, B, P] of all weights."""
        columns = [grads]
        if average is not None:
            columns.append(average)
        if self.config.time_input:
            columns.append(torch.full_like(grads, step))
        if self.config.loss_input:
            columns.append(loss.unsqueeze(1).expand_as(grads))
        return torch.stack(columns)

    def _average(self, grads: Tensor, state: TurtleState) -> Tensor | None:
        """Eq. 6. Gradients: starts at the first and includes the current; updates: zero before the first."""
        beta = self.config.beta
        if self.config.history == "none":
            return None
        if self.config.history == "gradients":
            return grads if state.average is None else beta * state.average + (1 - beta) * grads
        if state.update is None or state.average is None:
            return torch.zeros_like(grads)
        return beta * state.average + (1 - beta) * state.update


class MetaNetwork(nn.Module):
    """g_phi: ReLU layers and a linear output for every weight; PyTorch's default weights, zero biases."""

    def __init__(self, n_inputs: int, config: TurtleConfig) -> None:
        super().__init__()
        self.sizes = (n_inputs, *[config.hidden_units] * config.hidden_layers, 1)
        self.weights = nn.Parameter(torch.zeros(1, feedforward_size(self.sizes)))  # [runs, size]
        for weight, _ in self.layers():
            weight.data.uniform_(-(weight.shape[2] ** -0.5), weight.shape[2] ** -0.5)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """(W [runs, out, in], b [runs, out]) of each layer."""
        return feedforward_layers(self.weights, self.sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Proposals [B, P] for inputs [d, B, P]."""
        by_run = inputs.reshape(len(inputs), len(self.weights), -1)
        return feedforward(by_run, self.weights, self.sizes).view(inputs.shape[1:])


class Turtle(GradientBased):
    """TURTLE, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = TurtleConfig
    stackable = True
    config: TurtleConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """The meta-network with its learning rates."""
        return TurtleRule(self.config, net.layers)

    def distributions(self) -> dict[str, Tensor]:
        """The learning rates alpha, by layer of the base learner."""
        rates = self.rule.rates if isinstance(self.rule, TurtleRule) else None
        return {} if rates is None else {f"rates/{n}": rates.detach()[:, where] for n, where in self.net.layers.items()}

    def charts(self, support: Split) -> dict[str, Chart]:
        """Besides what the updates were, g_phi itself: what it proposes for every gradient, step by step."""
        charts, rule = super().charts(support), self.rule
        if isinstance(rule, TurtleRule) and charts:
            losses = self.adapt(support).losses.mean(0)
            charts |= proposals(rule.names, lambda grads: rule.response(grads, losses), charts["update"])
        return charts
