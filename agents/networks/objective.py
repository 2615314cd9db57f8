"""The inner objective of B tasks: support loss, its gradient, and Hessian-vector products.

`Objective` works for any network and any loss, through torch.func, task by task where that is faster. MLP and Conv4
have objectives with both derivatives written out (agents.networks.mlp, .conv4). None keeps a graph.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_env.episode import Split, TaskSpec


class Predictor(Protocol):
    """What an objective needs of a network (agents.networks.network.Network)."""

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None = None) -> Tensor:
        """Predictions [B, S, N]."""
        ...

    def chunks(self, params: Tensor) -> list[slice]:
        """The tasks of params [B, P] in the portions in which they are best computed."""
        ...


class Objective:
    """Support loss of weights [B, P]; each task's loss depends on its own row alone.

    stats [B, M]: given normalization statistics; None: those of the support itself.
    """

    def __init__(self, net: Predictor, spec: TaskSpec, support: Split, stats: Tensor | None) -> None:
        self.net, self.spec, self.support, self.stats = net, spec, support, stats

    def loss(self, params: Tensor, tasks: slice) -> Tensor:
        """Losses [b] of the weights [b, P] of some tasks."""
        stats = None if self.stats is None else self.stats[tasks]
        return self.spec.loss(self.net(params, self.support.x[tasks], stats), self.support.labels[tasks])

    def gradient(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients [B, P] and losses [B] at params [B, P]."""
        parts = [self.gradient_of(params[tasks], tasks) for tasks in self.net.chunks(params)]
        return torch.cat([grads for grads, _ in parts]), torch.cat([losses for _, losses in parts])

    def hessian_vector(self, params: Tensor, v: Tensor) -> Tensor:
        """H v [B, P] at params [B, P] for v [B, P]."""
        return torch.cat([self.hessian_vector_of(params[t], v[t], t) for t in self.net.chunks(params)])

    def vector_products(self, params: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """H v [B, P], and the derivative of (gradient . v) by the support's items [B, S, ...], at params [B, P]."""
        with torch.enable_grad():
            leaf, items = params.detach().requires_grad_(), self.support.x.detach().requires_grad_()
            losses = self.spec.loss(self.net(leaf, items, self.stats), self.support.labels)
            (grads,) = torch.autograd.grad(losses.sum(), leaf, create_graph=True)
            product, by_items = torch.autograd.grad(grads, (leaf, items), v, materialize_grads=True)
        return product, by_items

    def gradient_of(self, params: Tensor, tasks: slice) -> tuple[Tensor, Tensor]:
        """Gradients [b, P] and losses [b] of some tasks with weights [b, P]."""
        with torch.enable_grad():
            leaf = params.detach().requires_grad_()
            losses = self.loss(leaf, tasks)
            (grads,) = torch.autograd.grad(losses.sum(), leaf)
        return grads, losses.detach()

    def hessian_vector_of(self, params: Tensor, v: Tensor, tasks: slice) -> Tensor:
        """H v [b, P] of some tasks, forward-over-reverse."""

        def total(p: Tensor) -> Tensor:
            return self.loss(p, tasks).sum()

        product: Tensor = torch.func.jvp(torch.func.grad(total), (params,), (v,))[1]
        return product


class DoubleBackwardObjective(Objective):
    """The same with H v reverse-over-reverse: more of PyTorch's layers have second than forward derivatives."""

    def hessian_vector_of(self, params: Tensor, v: Tensor, tasks: slice) -> Tensor:
        """H v [b, P] of some tasks, as the gradient of (gradient . v)."""
        with torch.enable_grad():
            leaf = params.detach().requires_grad_()
            (grads,) = torch.autograd.grad(self.loss(leaf, tasks).sum(), leaf, create_graph=True)
            (product,) = torch.autograd.grad(grads, leaf, v, materialize_grads=True)
        return product


def output_delta(spec: TaskSpec, outputs: Tensor, targets: Tensor) -> Tensor:
    """Derivative of TaskSpec's own task losses by the outputs [B, S, N]."""
    items, n = outputs.shape[1:]
    if spec.kind == "regression":
        return (outputs - targets) * (2 / (items * n))
    return (outputs.softmax(-1) - F.one_hot(targets, n)) / items


def output_curvature(spec: TaskSpec, outputs: Tensor, r: Tensor) -> Tensor:
    """Derivative of `output_delta` along the output change r [B, S, N]."""
    items, n = outputs.shape[1:]
    if spec.kind == "regression":
        return r * (2 / (items * n))
    p = outputs.softmax(-1)
    return p * (r - (p * r).sum(-1, keepdim=True)) / items
