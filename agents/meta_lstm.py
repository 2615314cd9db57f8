"""The meta-learner LSTM (Ravi & Larochelle 2017; paper, Sect. 3.3) and its enhanced form.

    c^(t+1) = f^(t) * c^(t) - i^(t) * grad L(c^(t)),   c^(0) = theta                                   (Eq. 3)

The weights are the cell state. A first, ordinary LSTM layer reads the gradient and the loss of each
weight; the gates f and i are linear in its hidden state, the weight and the gate's previous value.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from agents import kernels
from agents.base import AgentConfig, BoundedInt
from agents.charts import Chart, by_step, quantiles
from agents.engine.inner_loop import Step, UpdateRule
from agents.engine.native import NativeStep
from agents.gradient_based import GradientBased, GradientBasedConfig
from agents.kernels import coordinates
from agents.networks import Network, Shapes, size_of, unpack
from fewshot_env.episode import Split, TaskSpec

P = 10.0  # range of the preprocessing (Andrychowicz et al. 2016, Appendix A)


class LSTMConfig(GradientBasedConfig):
    """Settings of the meta-learner LSTM (paper, Appendix)."""

    first_order: bool = Field(True, description="gradients and losses inside the update are constants")
    outer_clip_norm: float | None = Field(0.25, gt=0, description="bound on the norm of the whole meta-gradient")
    hidden_units: BoundedInt = Field(20, ge=1, description="units of the first LSTM layer, for each weight")
    raw_gradients: bool = Field(False, description="input: the gradient as it is; else loss and gradient, preprocessed")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """12 updates for 1-shot, 5 for 5-shot."""
        return super().paper(spec, n_shot) | {"inner_steps": 12 if n_shot < 5 else 5}


class LSTMState(NamedTuple):
    """Hidden and cell state [H, B, P] of the first layer, previous gate values [B, P]."""

    hidden: Tensor
    cell: Tensor
    forget: Tensor
    rate: Tensor


class LSTMRule(nn.Module):
    """Two layers, shared by all weights; every weight has its own state."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        units, n_inputs = config.hidden_units, 1 if config.raw_gradients else 4
        self.shapes: Shapes = {
            # first layer: rows are the input, forget, cell and output gates' units, columns inputs and hidden state
            "weight": (4 * units, n_inputs + units),
            "bias": (4 * units,),
            # second layer: weights of the hidden state, theta and the gate's previous value, and a bias
            "forget": (units + 3,),
            "rate": (units + 3,),
        }
        self.weights = nn.Parameter(torch.empty(1, size_of(self.shapes)))  # [runs, size]
        bound, w = units**-0.5, unpack(self.weights.data, self.shapes)
        w["weight"].uniform_(-bound, bound)
        w["bias"].uniform_(-bound, bound).add_(torch.empty_like(w["bias"]).uniform_(-bound, bound))
        for gate, low, high in (("forget", 4, 6), ("rate", -5, -4)):
            w[gate].uniform_(-0.01, 0.01)
            w[gate][:, -1].uniform_(low, high)

    def init(self, params: Tensor) -> LSTMState:
        """Zero states and zero previous gates."""
        hidden = params.new_zeros(self.config.hidden_units, *params.shape)
        gate = torch.zeros_like(params)
        return LSTMState(hidden, hidden, gate, gate)

    def forward(
        self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: LSTMState
    ) -> tuple[Tensor, LSTMState]:
        """Eq. 3 for weights and gradients [B, P] and losses [B]."""
        arguments = (params, grads, loss, *state)
        if kernels.available(params, self.weights):
            hidden, cell, forget, rate = state
            inputs = self._inputs(grads, loss)
            out: tuple[Tensor, ...] = coordinates.LSTMStep.apply(
                inputs, hidden, cell, params, grads, forget, rate, self.weights
            )
        elif params.numel() > coordinates.RECOMPUTE_ABOVE and torch.is_grad_enabled():
            out = checkpoint(self._step, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            out = self._step(*arguments)
        return out[0], LSTMState(*out[1:])

    def native_step(self) -> NativeStep:
        """The same as a kernel takes it."""
        numbers = float(self.config.hidden_units), float(self.config.raw_gradients)
        return NativeStep("meta_lstm", numbers, (self.weights,))

    def _inputs(self, grads: Tensor, loss: Tensor) -> Tensor:
        """What the first layer reads [d, B, P]: the gradient, or loss and gradient preprocessed."""
        if self.config.raw_gradients:
            return grads.unsqueeze(0)
        both = torch.stack([loss.unsqueeze(1).expand_as(grads), grads])
        return preprocess(both).transpose(0, 1).flatten(0, 1)  # size and sign of the loss, then of the gradient

    def _step(
        self, params: Tensor, grads: Tensor, loss: Tensor, hidden: Tensor, cell: Tensor, forget: Tensor, rate: Tensor
    ) -> tuple[Tensor, ...]:
        w, units = unpack(self.weights, self.shapes), self.config.hidden_units
        runs, tasks = len(self.weights), (len(self.weights), -1)
        seen = torch.cat([self._inputs(grads, loss), hidden]).reshape(-1, runs, params.numel() // runs)
        sums = torch.baddbmm(w["bias"].unsqueeze(2), w["weight"], seen.transpose(0, 1))  # [R, 4 H, n]
        enter, keep, candidate, leave = sums.transpose(0, 1).reshape(4 * units, *params.shape).split(units)
        cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        by_run = [v.unflatten(-2, tasks) for v in (hidden, params, forget, rate)]  # [.., R, B / R, P]
        forget = torch.sigmoid(_gate(w["forget"], by_run[0], by_run[1], by_run[2])).flatten(0, 1)
        rate = torch.sigmoid(_gate(w["rate"], by_run[0], by_run[1], by_run[3])).flatten(0, 1)
        return forget * params - rate * grads, hidden, cell, forget, rate


def _gate(weight: Tensor, hidden: Tensor, params: Tensor, previous: Tensor) -> Tensor:
    """W [h, theta, previous] + b for every weight [R, b, P]: weight [R, H + 3], hidden [H, R, b, P]."""
    seen = (weight[:, None, :-3] @ hidden.transpose(0, 1).flatten(2)).view(params.shape)
    of_theta, of_previous, bias = weight[:, -3:].T.unsqueeze(2).unsqueeze(3).unbind()
    sums: Tensor = seen + of_theta * params + of_previous * previous + bias
    return sums


def preprocess(x: Tensor) -> Tensor:
    """Andrychowicz et al. (2016), Appendix A: (log|x| / p, sign x), or (-1, e^p x) where |x| < e^-p; [2, ...]."""
    magnitude = x.abs()
    large = magnitude >= torch.e**-P
    size = torch.where(large, (magnitude + 1e-8).log() / P, -1.0)
    return torch.stack([size, torch.where(large, x.sign(), torch.e**P * x)])


class MetaLSTM(GradientBased):
    """The meta-learner LSTM; enhanced with raw_gradients, first_order = False and 8 updates."""

    Config: ClassVar[type[AgentConfig]] = LSTMConfig
    stackable = True
    config: LSTMConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """The two-layer LSTM."""
        return LSTMRule(self.config)

    def charts(self, support: Split) -> dict[str, Chart]:
        """Besides what the updates were, the gates of all weights at every step."""
        forget: list[Tensor] = []
        rate: list[Tensor] = []

        def watch(step: Step) -> None:
            forget.append(quantiles(step.state.forget))
            rate.append(quantiles(step.state.rate))

        self._adapt(support, watch)
        charts = super().charts(support)
        if forget:
            charts["gates/forget"] = by_step(forget, "f", "forget gate: share of the weight that stays")
            charts["gates/rate"] = by_step(rate, "i", "input gate: the learning rate of the weight")
        return charts
