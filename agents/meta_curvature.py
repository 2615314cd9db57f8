"""Meta-Curvature (Park & Oliva 2019): gradient descent on gradients that learned matrices transform, layer by layer.

The gradient of a convolution [out, in, k] is multiplied along each of its three axes by a square matrix, that of a
linear layer [out, in] along its two (their Eq. 6 and 7); all begin as the identity, with which it is MAML. Vectors
(biases, scales and shifts of normalizations) keep their gradients.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.engine.inner_loop import UpdateRule
from agents.maml import MAML, MAMLConfig
from agents.networks import Network, Shapes


class MetaCurvatureConfig(MAMLConfig):
    """Settings of Meta-Curvature: MAML's."""


class Curvature(nn.Module):
    """theta - lr * (transformed gradient); `shapes` are the weight tensors in their order in the flat vector."""

    def __init__(self, lr: float, shapes: Shapes) -> None:
        super().__init__()
        self.lr = lr
        self.sizes = [math.prod(shape) for shape in shapes.values()]
        self.axes = [_axes(shape) for shape in shapes.values()]
        places = [(f"{i}_{axis}", n) for i, axes in enumerate(self.axes) for axis, n in enumerate(axes)]
        self.matrices = nn.ParameterDict({name: torch.eye(n).unsqueeze(0) for name, n in places})  # [runs, n, n]

    def init(self, params: Tensor) -> None:
        """No state."""

    def transformed(self, grads: Tensor) -> Tensor:
        """Gradients [B, P] after the matrices."""
        parts = []
        for i, (part, axes) in enumerate(zip(grads.split(self.sizes, -1), self.axes, strict=True)):
            for axis in range(len(axes)):
                matrix = self.matrices[f"{i}_{axis}"]
                runs, before, n = len(matrix), math.prod(axes[:axis]), axes[axis]
                by_axis = part.reshape(runs, -1, before, n, math.prod(axes[axis + 1 :]))
                part = torch.einsum("rmn,rbpnq->rbpmq", matrix, by_axis).reshape(part.shape)
            parts.append(part)
        return torch.cat(parts, -1)

    def forward(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: None) -> tuple[Tensor, None]:
        """New weights from weights and gradients [B, P]."""
        return params - self.lr * self.transformed(grads), None


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(out, in, k) of a convolution, (out, in) of a linear layer, () of a vector."""
    return () if len(shape) < 2 else shape if len(shape) == 2 else (shape[0], shape[1], math.prod(shape[2:]))


class MetaCurvature(MAML):
    """Meta-Curvature, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = MetaCurvatureConfig
    stackable = True

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent with learned matrices."""
        return Curvature(self.config.inner_lr, net.shapes)
