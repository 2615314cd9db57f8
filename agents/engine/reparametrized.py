"""Gradient descent in other coordinates: what adapts are coordinates, and the base learner's weights follow from them.

    coordinates' = coordinates - lr * (d weights / d coordinates)^T grad L_support(weights)

CAVIA's context and SAP's operations are such coordinates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewshot_env.episode import Split


class BeginsElsewhere(nn.Module, ABC):
    """An update rule (agents.engine.inner_loop) whose first weights are made from the initialization."""

    @abstractmethod
    def begin(self, theta: Tensor, support: Split) -> tuple[Tensor, Any]:
        """Weights [B, P] before the first step, and the rule's state, from the initialization [B, P] of B tasks."""

    def init(self, params: Tensor) -> None:
        """See `begin`, which the inner loop calls instead."""
        raise AssertionError("this rule has no state without a support set")


class Place(NamedTuple):
    """Where B tasks stand: the initialization [B, P] and the coordinates [B, C]."""

    theta: Tensor
    coordinates: Tensor


class Reparametrized(BeginsElsewhere):
    """Gradient descent on coordinates; a subclass says what they are. lr: learning rate."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr

    @abstractmethod
    def first(self, theta: Tensor) -> Tensor:
        """The coordinates [B, C] before the first step, for the initialization [B, P]."""

    @abstractmethod
    def weights(self, theta: Tensor, coordinates: Tensor) -> Tensor:
        """The base learner's weights [B, P] at coordinates [B, C]."""

    def begin(self, theta: Tensor, support: Split) -> tuple[Tensor, Place]:
        """Weights at the first coordinates, and the state."""
        first = self.first(theta)
        if torch.is_grad_enabled() and not first.requires_grad:
            first.requires_grad_()
        return self.weights(theta, first), Place(theta, first)

    def forward(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: Place) -> tuple[Tensor, Place]:
        """New weights from weights and gradients [B, P]; the latter are constants in first order."""
        after = state.coordinates - self.lr * self._pulled_back(params, grads, state)
        return self.weights(state.theta, after), Place(state.theta, after)

    def _pulled_back(self, params: Tensor, grads: Tensor, state: Place) -> Tensor:
        """Gradients by the coordinates [B, C] from gradients by the weights [B, P]."""
        if torch.is_grad_enabled():
            graph = {"create_graph": grads.requires_grad, "retain_graph": True}
            (found,) = torch.autograd.grad(params, state.coordinates, grads, **graph)
            return found
        with torch.enable_grad():
            leaf = state.coordinates.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.weights(state.theta.detach(), leaf), leaf, grads)
        return found
