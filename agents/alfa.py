"""ALFA (Baik, Choi, Choi, Kim & Lee 2020): rates and weight decay of every layer, proposed anew at every inner step.

    theta_l' = beta_l * theta_l - alpha_l * grad_l,
    (alpha, beta) = (learned values of step and layer) * g_phi(means of gradient and weights of every layer)  (Eq. 3, 4)

g_phi is a small network with 2 inputs and 2 outputs for each layer. Its outputs begin at 1, alpha at inner_lr and beta
at 1: then it is MAML.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.engine.inner_loop import UpdateRule
from agents.maml import MAML, MAMLConfig
from agents.networks import Network, by_weight


class ALFAConfig(MAMLConfig):
    """Settings of ALFA: MAML's; inner_lr is where the learned rates begin."""


class Proposed(nn.Module):
    """Rates and decay for a base learner whose layers lie at `layers` in the flat weights, for `steps` steps."""

    def __init__(self, lr: float, layers: dict[str, slice], steps: int) -> None:
        super().__init__()
        self.layers, self.steps = list(layers.values()), steps
        n = 2 * len(self.layers)
        first = torch.cat([torch.full((steps, n // 2), lr), torch.ones(steps, n // 2)], 1)
        self.base = nn.Parameter(first.unsqueeze(0))  # [runs, T, 2 L]: alpha, beta
        self.weights = nn.ParameterList(torch.empty(1, n, n).uniform_(-(n**-0.5), n**-0.5) for _ in range(2))
        self.biases = nn.ParameterList(torch.zeros(1, 1, n) for _ in range(2))
        self.last, self.last_bias = nn.Parameter(torch.zeros(1, n, n)), nn.Parameter(torch.ones(1, 1, n))

    def init(self, params: Tensor) -> None:
        """No state."""

    def forward(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: None) -> tuple[Tensor, None]:
        """New weights from weights and gradients [B, P]; steps beyond those of training take the last one's values."""
        runs = len(self.base)
        means = [v[:, where].mean(1) for v in (grads, params) for where in self.layers]
        h = torch.stack(means, 1).unflatten(0, (runs, -1))  # [R, b, 2 L]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = torch.baddbmm(bias, h, weight).relu()
        values = self.base[:, min(step, self.steps - 1)].unsqueeze(1) * torch.baddbmm(self.last_bias, h, self.last)
        alpha, beta = (by_weight(part, self.layers) for part in values.flatten(0, 1).chunk(2, 1))
        return beta * params - alpha * grads, None


class ALFA(MAML):
    """ALFA from a learned initialization, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = ALFAConfig
    stackable = True

    def make_rule(self, net: Network) -> UpdateRule:
        """The network that proposes rates and decay."""
        return Proposed(self.config.inner_lr, net.layers, self.config.inner_steps)
