"""One pass of Conv4 with both derivatives written out, and features for the query.

Each block's math is in agents.networks.conv4_block; here are the convolutions between them. Names with an r are
derivatives along v. B tasks are B groups of channels: C = B * filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.networks.conv4_block import Block, BlockMath, CompiledBlockMath, block_math
from agents.networks.flat import Shapes, unpack

Weights = dict[str, Tensor]


class ConvolutionalBody(Protocol):
    """What a pass needs of Conv4's body (agents.networks.conv4)."""

    shapes: Shapes
    depth: int
    filters: int
    padding: int
    conv_dtype: torch.dtype | None

    def convolve(self, h: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        """A 3x3 convolution."""
        ...

    def to_groups(self, x: Tensor) -> Tensor:
        """x [B, S, C, H, W] -> [S, B C, H, W]."""
        ...

    def from_groups(self, h: Tensor, tasks: int) -> Tensor:
        """h [S, B filters, H, W] -> features [B, S, F]."""
        ...


PART = 8  # items whose first convolution is computed anew at once


class Conv4Pass:
    """One forward pass of Conv4's body for b tasks, x [b, S, C, H, W], and what follows from it."""

    def __init__(self, body: ConvolutionalBody, w: Weights, x: Tensor, lean: bool = False) -> None:
        """lean: if kernels allow it, the first convolution's output (by far the largest) is never held as a whole."""
        self.body, self.tasks, self.w = body, len(x), w
        self.kernels = [w[f"block{i}.weight"].flatten(0, 1) for i in range(body.depth)]
        self.inputs: list[Tensor] = [body.to_groups(x)]
        self.blocks: list[Block] = []
        self.math: BlockMath = block_math(self.tasks, x, *w.values())
        self.lean = self.math if lean and isinstance(self.math, CompiledBlockMath) else None
        for i in range(body.depth):
            scale, shift = self._channels(w, i, "scale"), self._channels(w, i, "shift")
            if i == 0 and self.lean is not None:
                block = self.lean.forward_in_parts(_FirstConvolution(self), scale, shift)
            else:
                block = self.math.forward(self.convolve(i, self.inputs[i]), scale, shift)
            self.blocks.append(block)
            self.inputs.append(block.out)

    @property
    def features(self) -> Tensor:
        """Features [b, S, F]."""
        return self.body.from_groups(self.inputs[-1], self.tasks)

    def backward(self, d_features: Tensor) -> Tensor:
        """Gradient [b, P_body] of the body's weights, from that of the features [b, S, F]; uses up the pass."""
        d, parts = self._maps(d_features), []
        for i in reversed(range(self.body.depth)):
            self.inputs.pop()  # the block's output
            block = self.blocks.pop()
            if i == 0 and self.lean is not None:
                d_kernel, d_scale, d_shift = self._first_backward(self.lean, block, d)
            else:
                du, d_scale, d_shift = self.math.backward(block, d)
                del block, d  # before the convolution asks for as much
                d, d_kernel = self._conv_backward(du, self.inputs[i], self.kernels[i], (i > 0, True))
            parts += [d_shift, d_scale, torch.zeros_like(d_shift), d_kernel]  # normalization undoes the bias
        return flat_rows(parts[::-1], self.tasks)

    def _first_backward(self, math: CompiledBlockMath, block: Block, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the first block's kernel, scale and shift, part by part."""
        kernel, convolution = self.kernels[0], _FirstConvolution(self)
        d_kernel, (d_scale, d_shift) = torch.zeros_like(kernel), math.weights_backward(block, d)
        for part, u in zip(convolution.parts, convolution, strict=True):
            du = math.input_backward(block, u, part, d, d_scale, d_shift)
            d_kernel += self._conv_backward(du, self.inputs[0][part], kernel, (False, True))[1]
        return d_kernel, d_scale, d_shift

    def r_forward(self, r: Weights) -> Tensor:
        """Change of the features [b, S, F] along weights r, kept for `r_backward`."""
        self.r_kernels = [r[f"block{i}.weight"].flatten(0, 1) for i in range(self.body.depth)]
        self.changes, rh = [], None
        for i, block in enumerate(self.blocks):
            ru = self._conv(self.inputs[i], self.r_kernels[i])
            if rh is not None:
                ru += self._conv(rh, self.kernels[i])
            r_scale, r_shift = self._channels(r, i, "scale"), self._channels(r, i, "shift")
            self.changes.append(self.math.r_forward(block, ru, r_scale, r_shift))
            rh = self.changes[i].out
        assert rh is not None
        return self.body.from_groups(rh, self.tasks)

    def r_backward(self, d_features: Tensor, rd_features: Tensor) -> Tensor:
        """Change of `backward`'s result along r; the features' gradient changes by rd_features. Uses up the pass."""
        d, rd, parts = self._maps(d_features), self._maps(rd_features), []
        for i in reversed(range(self.body.depth)):
            self.inputs.pop()
            du, rdu, r_scale, r_shift = self.math.r_backward(self.blocks.pop(), self.changes.pop(), d, rd)
            rd, r_kernel = self._conv_backward(rdu, self.inputs[i], self.kernels[i], (i > 0, True))
            if i > 0:
                d, more = self._conv_backward(du, self.changes[i - 1].out, self.kernels[i], (True, True))
                r_kernel += more
                rd += self._conv_backward(du, self.inputs[i], self.r_kernels[i], (True, False))[0]
            parts += [r_shift, r_scale, torch.zeros_like(r_shift), r_kernel]
        return flat_rows(parts[::-1], self.tasks)

    def convolve(self, i: int, h: Tensor) -> Tensor:
        """Block i's convolution of maps h."""
        bias = self._channels(self.w, i, "bias")
        return self.body.convolve(h, self.kernels[i], bias, self.tasks)

    @staticmethod
    def _channels(w: Weights, i: int, name: str) -> Tensor:
        """Block i's weights of one kind, a number per channel [C]."""
        return w[f"block{i}.{name}"].flatten()

    def _conv(self, h: Tensor, kernel: Tensor) -> Tensor:
        return self.body.convolve(h, kernel, None, self.tasks)

    def _conv_backward(self, du: Tensor, h: Tensor, kernel: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        """Derivatives by the input and by the kernel, where wanted."""
        padding, dtype = [self.body.padding] * 2, self.body.conv_dtype or du.dtype
        d, d_kernel, _ = torch.ops.aten.convolution_backward(
            du.to(dtype), h.to(dtype), kernel.to(dtype), None, [1, 1], padding, [1, 1], False, [0, 0], self.tasks,
            [*wanted, False],
        )  # fmt: skip
        return d.to(du.dtype) if wanted[0] else d, d_kernel.to(du.dtype) if wanted[1] else d_kernel

    def _maps(self, features: Tensor) -> Tensor:
        """Features [b, S, F] as the last block's maps [S, C, H, W]."""
        tasks, items = features.shape[:2]
        return features.transpose(0, 1).reshape(items, tasks * self.body.filters, *self.inputs[-1].shape[2:])


class _FirstConvolution:
    """The first convolution's output, part by part, computed anew at every pass."""

    def __init__(self, done: Conv4Pass) -> None:
        self.done = done
        self.parts = [slice(start, start + PART) for start in range(0, len(done.inputs[0]), PART)]

    def __iter__(self) -> Iterator[Tensor]:
        """Maps [PART, C, H, W]."""
        for part in self.parts:
            yield self.done.convolve(0, self.done.inputs[0][part])


class _Features(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, params: Tensor, body: ConvolutionalBody, x: Tensor) -> Tensor:
        done = ctx.done = Conv4Pass(body, unpack(params, body.shapes), x, lean=True)
        return done.features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_features: Tensor) -> tuple[Tensor, None, None]:
        done, ctx.done = ctx.done, None  # free its maps as soon as they are used
        if done is None:
            raise RuntimeError("the query's features were already differentiated; predict again")
        return done.backward(d_features), None, None


def conv4_features(body: ConvolutionalBody, params: Tensor, x: Tensor) -> Tensor:
    """Features [b, S, F] of x under weights [b, P_body] and batch statistics of x; differentiable once, in params."""
    features: Tensor = _Features.apply(params, body, x)
    return features


def flat_rows(parts: list[Tensor], tasks: int) -> Tensor:
    """Weight-shaped tensors of B tasks, tasks in front, as [B, P]."""
    return torch.cat([part.reshape(tasks, -1) for part in parts], 1)
