"""One forward pass of the MLP for B tasks with weights of their own, and what follows from it.

`MLPPass` is back-propagation and Pearlmutter's R-operator (1994) written out in torch; `CompiledMLPPass` the same in
kernels (agents/kernels/mlp.cpp), since tiny matrices cost more to call than to multiply. Names with an r are
derivatives along a change v of the weights. B tasks, S items, N outputs, P weights.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents import kernels
from agents.networks.flat import Shapes, size_of, unpack


class MLPPass:
    """In torch operations. shapes: (weight, bias) by layer, head included; params [B, P]; x [B, S, F]."""

    outputs: Tensor
    """[B, S, N]."""

    def __init__(self, shapes: Shapes, params: Tensor, x: Tensor) -> None:
        self.shapes, self.params, self.x = shapes, params, x
        self.forward()

    def forward(self) -> None:
        """The inputs of every layer, and the outputs."""
        self.acts, h = [], self.x
        layers = self._layers(self.params)
        for i, (weight, bias) in enumerate(layers):
            self.acts.append(h)
            h = torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
            if i + 1 < len(layers):
                h = h.relu_()
        self.outputs = h

    def backward(self, delta: Tensor) -> Tensor:
        """Gradients [B, P] from those of the outputs [B, S, N]."""
        grads: list[Tensor] = []
        for (weight, _), act in zip(reversed(self._layers(self.params)), reversed(self.acts), strict=True):
            grads += [delta.sum(1), (delta.mT @ act).flatten(1)]
            if act is not self.x:
                delta = (delta @ weight).mul_(act > 0)
        return torch.cat(grads[::-1], 1)

    def r_forward(self, v: Tensor) -> Tensor:
        """Change of the outputs [B, S, N] along v [B, P], kept for `r_backward`."""
        self.v, self.r_acts, r_act = v, [torch.zeros_like(self.x)], None
        layers = self._layers(self.params)
        for i, ((weight, _), (r_weight, r_bias)) in enumerate(zip(layers, self._layers(v), strict=True)):
            r = torch.baddbmm(r_bias.unsqueeze(1), self.acts[i], r_weight.mT)
            r_act = r if r_act is None else r.baddbmm_(r_act, weight.mT)
            if i + 1 < len(layers):
                self.r_acts.append(r_act.mul_(self.acts[i + 1] > 0))
        assert r_act is not None
        return r_act

    def r_backward(self, delta: Tensor, r_delta: Tensor) -> Tensor:
        """Change of `backward`'s result along v; the outputs' gradient changes by r_delta."""
        layers, r_layers, products = self._layers(self.params), self._layers(self.v), []
        for i in reversed(range(len(layers))):
            r_grad = r_delta.mT @ self.acts[i]
            products += [r_delta.sum(1), (r_grad.baddbmm_(delta.mT, self.r_acts[i]) if i else r_grad).flatten(1)]
            if i:
                mask = self.acts[i] > 0
                r_delta = (r_delta @ layers[i][0]).baddbmm_(delta, r_layers[i][0]).mul_(mask)
                delta = (delta @ layers[i][0]).mul_(mask)
        return torch.cat(products[::-1], 1)

    def _layers(self, params: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight [B, out, in], bias [B, out]) of every layer, head included."""
        named = list(unpack(params, self.shapes).values())
        return list(zip(named[::2], named[1::2], strict=True))


class CompiledMLPPass(MLPPass):
    """In kernels, on the CPU."""

    def forward(self) -> None:
        """The activations of all hidden layers, as the kernels lay them out, and the outputs."""
        self.params, self.x = self.params.contiguous(), self.x.contiguous()
        sizes = _sizes(tuple(self.shapes.values()))
        tasks, items = self.x.shape[:2]
        if self.params.shape != (tasks, size_of(self.shapes)) or self.x.shape[2] != sizes[0]:
            shapes = f"{tuple(self.params.shape)} and {tuple(self.x.shape)}"
            raise RuntimeError(
                f"weights [B, P] and items [B, S, F] of shapes {shapes} do not fit an MLP of sizes {sizes}"
            )
        self.layout = torch.tensor(sizes), len(sizes) - 1, tasks, items
        width = 64 // self.x.element_size()  # rows are padded to whole vectors
        self.hidden = self.x.new_empty(tasks, sum(items * -(-n // width) * width for n in sizes[1:-1]))
        self.outputs = self.x.new_empty(tasks, items, sizes[-1])
        kernels.call("mlp_forward", self.params, self.x, self.hidden, self.outputs, *self.layout)

    def backward(self, delta: Tensor) -> Tensor:
        """Gradients [B, P] from those of the outputs [B, S, N]."""
        grads = torch.zeros_like(self.params)
        kernels.call("mlp_backward", self.params, self.x, self.hidden, delta.contiguous(), grads, *self.layout)
        return grads

    def r_forward(self, v: Tensor) -> Tensor:
        """Change of the outputs [B, S, N] along v [B, P], kept for `r_backward`."""
        self.v, self.r_hidden, r_outputs = v.contiguous(), torch.empty_like(self.hidden), torch.empty_like(self.outputs)
        given = self.params, self.v, self.x, self.hidden
        kernels.call("mlp_r_forward", *given, self.r_hidden, r_outputs, *self.layout)
        return r_outputs

    def r_backward(self, delta: Tensor, r_delta: Tensor) -> Tensor:
        """Change of `backward`'s result along v; the outputs' gradient changes by r_delta."""
        given = self.params, self.v, self.x, self.hidden, self.r_hidden, delta.contiguous(), r_delta.contiguous()
        products = torch.zeros_like(self.params)
        kernels.call("mlp_r_backward", *given, products, *self.layout)
        return products


def mlp_pass(shapes: Shapes, params: Tensor, x: Tensor) -> MLPPass:
    """The fastest pass for these tensors."""
    return (CompiledMLPPass if kernels.available(params, x) else MLPPass)(shapes, params, x)


@functools.cache
def _sizes(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Units of every layer, from the inputs on."""
    return shapes[0][1], *[shape[0] for shape in shapes[::2]]


class _Outputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, params: Tensor, shapes: Shapes, x: Tensor) -> Tensor:
        ctx.done = mlp_pass(shapes, params, x)
        outputs: Tensor = ctx.done.outputs
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        return ctx.done.backward(delta), None, None


def mlp_outputs(shapes: Shapes, params: Tensor, x: Tensor) -> Tensor:
    """Outputs [B, S, N] for x [B, S, F]; differentiable once, in params."""
    outputs: Tensor = _Outputs.apply(params, shapes, x)
    return outputs
