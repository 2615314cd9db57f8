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

from agents.base import AgentConfig
from agents.gradient_based import GradientBased, GradientBasedConfig
from agents.inner_loop import UpdateRule
from agents.nets import Net
from fewshot_env.episode import TaskSpec

P = 10.0  # range of the preprocessing (Andrychowicz et al. 2016, Appendix A)


class LSTMConfig(GradientBasedConfig):
    """Settings of the meta-learner LSTM (paper, Appendix)."""

    first_order: bool = Field(True, description="gradients and losses inside the update are constants")
    outer_clip_norm: float | None = Field(0.25, gt=0, description="bound on the norm of the whole meta-gradient")
    hidden_units: int = Field(20, ge=1, description="units of the first LSTM layer, for each weight")
    raw_gradients: bool = Field(False, description="input: the gradient as it is; else loss and gradient, preprocessed")
    recompute: bool = Field(True, description="recompute the rule in the backward pass: memory for a little time")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """12 updates for 1-shot, 5 for 5-shot; the MLP's states are small enough to keep."""
        return {"inner_steps": 12 if n_shot < 5 else 5, "recompute": len(spec.in_shape) == 3}


class LSTMState(NamedTuple):
    """Hidden and cell state [H, B, P] of the first layer, previous gate values [B, P]."""

    hidden: Tensor
    cell: Tensor
    forget: Tensor
    rate: Tensor


class LSTMRule(nn.Module):
    """Two layers, shared by all weights; every weight has its own state.

    States hold their H units in front: each gate's part of the sums is then one contiguous block, and the
    element-wise work, which dominates, is not strided as in nn.LSTMCell.
    """

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        units, n_inputs = config.hidden_units, 1 if config.raw_gradients else 4
        bound = units**-0.5
        # first layer: rows are the input, forget, cell and output gates' units, columns the inputs and the hidden state
        self.weight = nn.Parameter(torch.empty(4 * units, n_inputs + units).uniform_(-bound, bound))
        self.bias = nn.Parameter(
            torch.empty(4 * units).uniform_(-bound, bound) + torch.empty(4 * units).uniform_(-bound, bound)
        )
        # second layer: weights of the hidden state, theta and the gate's previous value
        self.forget_weight = nn.Parameter(torch.empty(units + 2).uniform_(-0.01, 0.01))
        self.rate_weight = nn.Parameter(torch.empty(units + 2).uniform_(-0.01, 0.01))
        self.forget_bias = nn.Parameter(torch.empty(1).uniform_(4, 6))
        self.rate_bias = nn.Parameter(torch.empty(1).uniform_(-5, -4))

    def init(self, params: Tensor) -> LSTMState:
        """Zero states and zero previous gates."""
        hidden = params.new_zeros(self.config.hidden_units, *params.shape)
        gate = torch.zeros_like(params)
        return LSTMState(hidden, hidden, gate, gate)

    def forward(
        self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: LSTMState
    ) -> tuple[Tensor, LSTMState]:
        """Eq. 3 for weights and gradients [B, P] and losses [B]."""
        if self.config.recompute and torch.is_grad_enabled():
            out = checkpoint(self._step, params, grads, loss, *state, use_reentrant=False, preserve_rng_state=False)
        else:
            out = self._step(params, grads, loss, *state)
        return out[0], LSTMState(*out[1:])

    def _step(
        self, params: Tensor, grads: Tensor, loss: Tensor, hidden: Tensor, cell: Tensor, forget: Tensor, rate: Tensor
    ) -> tuple[Tensor, ...]:
        if self.config.raw_gradients:
            inputs = grads.unsqueeze(0)
        else:
            losses = preprocess(loss.unsqueeze(1)).expand(2, *grads.shape)
            inputs = torch.cat([losses, preprocess(grads)])  # [4, B, P]
        units = self.config.hidden_units
        seen = torch.cat([inputs, hidden]).flatten(1)
        sums = torch.addmm(self.bias.unsqueeze(1), self.weight, seen).unflatten(1, params.shape)  # [4 H, B, P]
        enter, keep, candidate, leave = sums.split(units)
        cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        forget = torch.sigmoid(_gate(self.forget_weight, self.forget_bias, hidden, params, forget))
        rate = torch.sigmoid(_gate(self.rate_weight, self.rate_bias, hidden, params, rate))
        return forget * params - rate * grads, hidden, cell, forget, rate


def _gate(weight: Tensor, bias: Tensor, hidden: Tensor, params: Tensor, previous: Tensor) -> Tensor:
    """W [h, theta, previous] + b for every weight: [B, P]."""
    seen = (weight[:-2] @ hidden.flatten(1)).view_as(params)
    return seen + weight[-2] * params + weight[-1] * previous + bias


def preprocess(x: Tensor) -> Tensor:
    """Andrychowicz et al. (2016), Appendix A: (log|x| / p, sign x), or (-1, e^p x) where |x| < e^-p; [2, ...]."""
    large = x.abs() >= torch.e**-P
    size = torch.where(large, (x.abs() + 1e-8).log() / P, -torch.ones_like(x))
    sign = torch.where(large, x.sign(), torch.e**P * x)
    return torch.stack([size, sign])


class MetaLSTM(GradientBased):
    """The meta-learner LSTM; enhanced with raw_gradients, first_order = False and 8 updates."""

    Config: ClassVar[type[AgentConfig]] = LSTMConfig
    config: LSTMConfig

    def make_rule(self, net: Net) -> UpdateRule:
        """The two-layer LSTM."""
        return LSTMRule(self.config)
