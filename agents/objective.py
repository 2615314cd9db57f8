"""The inner objective of B tasks: support loss, its gradient, and Hessian-vector products.

`Objective` works for any net, through torch.func, task by task where that is faster. `MLPObjective`
writes both derivatives out for the MLP, which is several times faster than building graphs of tiny
matrices; agents.conv4_objective does so for Conv4. None keeps a graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.nets import Net, unpack
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
    """The MLP with a linear head: back-propagation and Pearlmutter's R-operator (1994), written out."""

    def __init__(self, net: Net, spec: TaskSpec, support: Split, stats: Tensor | None) -> None:
        super().__init__(net, spec, support, stats)
        self.x = support.x.flatten(2)
        self.shapes = net.body.shapes | net.head.shapes

    def gradient(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients [B, P] and losses [B] at params [B, P]."""
        layers = self._layers(params)
        acts, outputs = self._forward(layers)
        grads: list[Tensor] = []
        delta = output_delta(self.spec, outputs, self.support.labels)
        for (weight, _), act in zip(reversed(layers), reversed(acts), strict=True):
            grads += [delta.sum(1), (delta.mT @ act).flatten(1)]
            if act is not self.x:
                delta = (delta @ weight).mul_(act > 0)
        return torch.cat(grads[::-1], 1), self.spec.loss(outputs, self.support.labels)

    def hessian_vector(self, params: Tensor, v: Tensor) -> Tensor:
        """H v [B, P]: the derivative of `gradient` along v; names with an r are such derivatives."""
        layers, r_layers = self._layers(params), self._layers(v)
        acts, outputs = self._forward(layers)
        r_acts, r_act = [torch.zeros_like(self.x)], None
        for i, ((weight, _), (r_weight, r_bias)) in enumerate(zip(layers, r_layers, strict=True)):
            r = torch.baddbmm(r_bias.unsqueeze(1), acts[i], r_weight.mT)
            r_act = r if r_act is None else r.baddbmm_(r_act, weight.mT)
            if i + 1 < len(layers):
                r_acts.append(r_act.mul_(acts[i + 1] > 0))
        assert r_act is not None
        delta = output_delta(self.spec, outputs, self.support.labels)
        r_delta = output_curvature(self.spec, outputs, r_act)
        products: list[Tensor] = []
        for i in reversed(range(len(layers))):
            r_grad = r_delta.mT @ acts[i]
            products += [r_delta.sum(1), (r_grad.baddbmm_(delta.mT, r_acts[i]) if i else r_grad).flatten(1)]
            if i:
                mask = acts[i] > 0
                r_delta = (r_delta @ layers[i][0]).baddbmm_(delta, r_layers[i][0]).mul_(mask)
                delta = (delta @ layers[i][0]).mul_(mask)
        return torch.cat(products[::-1], 1)

    def _layers(self, params: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight [B, out, in], bias [B, out]) of every layer, head included."""
        named = list(unpack(params, self.shapes).values())
        return list(zip(named[::2], named[1::2], strict=True))

    def _forward(self, layers: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Tensor]:
        """Inputs of every layer [B, S, in], and the outputs [B, S, N]."""
        acts, h = [], self.x
        for i, (weight, bias) in enumerate(layers):
            acts.append(h)
            h = torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
            if i + 1 < len(layers):
                h = h.relu_()
        return acts, h


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
