"""Gradient descent in other coordinates: what adapts are coordinates, and the base learner's weights follow from them.

    coordinates' = coordinates - lr * (d weights / d coordinates)^T grad L_support(weights)

CAVIA's context, T-net's weights below a learned map and SAP's operations are such coordinates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewshot_env.episode import Split


class Place(NamedTuple):
    """Where B tasks stand: initialization [B, P], coordinates [B, C], and which of them adapt [B, C] (None: all)."""

    theta: Tensor
    coordinates: Tensor
    mask: Tensor | None


class Reparametrized(nn.Module, ABC):
    """An update rule (agents.engine.inner_loop) on coordinates; a subclass says what they are.

    Args:
        lr: learning rate.
        first_order: whether gradients inside the update are constants.
    """

    def __init__(self, lr: float, first_order: bool) -> None:
        super().__init__()
        self.lr, self.first_order = lr, first_order

    @abstractmethod
    def first(self, theta: Tensor) -> Tensor:
        """The coordinates [B, C] before the first step, for the initialization [B, P]."""

    @abstractmethod
    def weights(self, theta: Tensor, coordinates: Tensor) -> Tensor:
        """The base learner's weights [B, P] at coordinates [B, C]."""

    def mask(self, support: Split) -> Tensor | None:
        """Factors on the coordinates' steps [B, C]; None: 1."""
        return None

    def begin(self, theta: Tensor, support: Split) -> tuple[Tensor, Place]:
        """Weights [B, P] before the first step, and the rule's state."""
        first = self.first(theta)
        if torch.is_grad_enabled() and not first.requires_grad:
            first.requires_grad_()
        return self.weights(theta, first), Place(theta, first, self.mask(support))

    def init(self, params: Tensor) -> None:
        """See `begin`."""
        raise AssertionError("the inner loop calls begin")

    def forward(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: Place) -> tuple[Tensor, Place]:
        """New weights from weights and gradients [B, P]."""
        by_coordinates = self._pulled_back(params, grads, state)
        if state.mask is not None:
            by_coordinates = state.mask * by_coordinates
        after = state._replace(coordinates=state.coordinates - self.lr * by_coordinates)
        return self.weights(after.theta, after.coordinates), after

    def _pulled_back(self, params: Tensor, grads: Tensor, state: Place) -> Tensor:
        """Gradients by the coordinates [B, C] from gradients by the weights [B, P]."""
        if torch.is_grad_enabled():
            graph = {"create_graph": not self.first_order, "retain_graph": True}
            (found,) = torch.autograd.grad(params, state.coordinates, grads, **graph)
            return found
        with torch.enable_grad():
            leaf = state.coordinates.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.weights(state.theta.detach(), leaf), leaf, grads)
        return found
