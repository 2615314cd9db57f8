"""Meta-SGD (Li, Zhou, Chen & Li 2017): gradient descent with a learned rate, of either sign, for every weight.

theta' = theta - alpha * grad L_support(theta), elementwise; alpha is learned together with theta        (their Eq. 3)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.engine.inner_loop import UpdateRule
from agents.engine.native import NativeStep
from agents.gradient_based import GradientBased, GradientBasedConfig
from agents.networks import Network

FIRST_RATES = (0.005, 0.1)


class MetaSGDConfig(GradientBasedConfig):
    """Settings of Meta-SGD."""

    inner_steps: BoundedInt = Field(1, ge=1, description="T, updates per task in meta-training")


class LearnedRates(nn.Module):
    """theta - alpha * gradient; one alpha for each of P weights, uniform in [0.005, 0.1] at first."""

    def __init__(self, n_params: int) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.empty(1, n_params).uniform_(*FIRST_RATES))  # [runs, P]

    def init(self, params: Tensor) -> None:
        """No state."""

    def forward(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: None) -> tuple[Tensor, None]:
        """New weights from weights and gradients [B, P]."""
        by_run = grads.unflatten(0, (len(self.rates), -1))
        return params - (self.rates.unsqueeze(1) * by_run).flatten(0, 1), None

    def native_step(self) -> NativeStep:
        """The same as a kernel takes it."""
        return NativeStep("descent", (0.0,), (self.rates,))


class MetaSGD(GradientBased):
    """Meta-SGD, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = MetaSGDConfig
    stackable = True
    config: MetaSGDConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent with learned rates."""
        return LearnedRates(net.n_params)

    def distributions(self) -> dict[str, Tensor]:
        """The learning rates, by layer of the base learner."""
        assert isinstance(self.rule, LearnedRates)
        rates = self.rule.rates.detach()
        return {f"rates/{name}": rates[:, where] for name, where in self.net.layers.items()}
