"""The inner objective of B tasks: support loss, its gradient, and Hessian-vector products.

`Objective` works for any net, through torch.func, task by task where that is faster. `MLPObjective` and
agents.networks.conv4_pass have both derivatives written out. None keeps a graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.networks.mlp_pass import mlp_pass
from agents.networks.network import Net
from fewshot_env.episode import Split, TaskSpec


class Objective:
    """Support loss of weights [B, P]; each task's loss depends on its own row alone."""

    def __init__(self, net: Net, spec: TaskSpec, support: Split, stats: Tensor | None) -> None:
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


class MLPObjective(Objective):
    """The MLP with a linear head, all tasks at once."""

    def __init__(self, net: Net, spec: TaskSpec, support: Split, stats: Tensor | None) -> None:
        super().__init__(net, spec, support, stats)
        self.x = support.x.flatten(2)
        self.shapes = net.body.shapes | net.head.shapes

    def gradient(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients [B, P] and losses [B] at params [B, P]."""
        done = mlp_pass(self.shapes, params, self.x)
        delta = output_delta(self.spec, done.outputs, self.support.labels)
        return done.backward(delta), self.spec.loss(done.outputs, self.support.labels)

    def hessian_vector(self, params: Tensor, v: Tensor) -> Tensor:
        """H v [B, P]: the derivative of `gradient` along v."""
        done = mlp_pass(self.shapes, params, self.x)
        delta = output_delta(self.spec, done.outputs, self.support.labels)
        r_delta = output_curvature(self.spec, done.outputs, done.r_forward(v))
        return done.r_backward(delta, r_delta)


def output_delta(spec: TaskSpec, outputs: Tensor, targets: Tensor) -> Tensor:
    """Derivative of the task losses by the outputs [B, S, N]."""
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
