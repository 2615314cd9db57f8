"""Conv4's block after its convolution, and its derivatives written out.

A block is y = scale * n + shift with n = (u - mean) * rstd over items and pixels of the convolution's output u, and
then relu(max_pool(y)). Derivatives reach y only at the pixels that the pool picked, so most passes shrink to the
pooled size. Names with an r are derivatives along a direction (Pearlmutter's R-operator, 1994).

`BlockMath` is this in torch; `CompiledBlockMath` the same in fused kernels (agents/kernels/block.cpp). Maps are full
size [S, C, H, W] or pooled [S, C, H/2, W/2]; statistics and weights are per channel [C].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from agents import kernels
from agents.networks.flat import EPS


@dataclass
class Block:
    """A block's forward pass."""

    u: Tensor
    scale: Tensor
    mean: Tensor
    rstd: Tensor
    picked: Tensor
    """Pooled: which pixel the pool took, in the math's own numbering."""
    n_picked: Tensor
    """Pooled: n at that pixel."""
    out: Tensor
    """Pooled: the block's output; the ReLU let through what is positive."""


@dataclass
class Change:
    """The derivative of a block's forward pass along a direction."""

    ru: Tensor
    r_scale: Tensor
    ru_mean: Tensor
    bend: Tensor
    """Mean of n * ru: rstd changes by -rstd^2 * bend."""
    rn_picked: Tensor
    out: Tensor


class BlockMath:
    """In torch operations; C may be the channels of several tasks, side by side."""

    def forward(self, u: Tensor, scale: Tensor, shift: Tensor) -> Block:
        """Normalize, pool, ReLU."""
        y, mean, rstd = torch.native_batch_norm(u, scale, shift, None, None, True, 0.0, EPS)
        pooled, picked = F.max_pool2d(y, 2, return_indices=True)
        n_picked = _affine(_pick(u, picked), rstd, -mean * rstd)
        return Block(u, scale, mean, rstd, picked, n_picked, pooled.relu_())

    def backward(self, b: Block, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by u, scale and shift from the gradient d of the output."""
        dy = _unpool(d * (b.out > 0), b)
        du, d_scale, d_shift = torch.ops.aten.native_batch_norm_backward(
            dy, b.u, b.scale, None, None, b.mean, b.rstd, True, EPS, [True, True, True]
        )
        return du, d_scale, d_shift

    def r_forward(self, b: Block, ru: Tensor, r_scale: Tensor, r_shift: Tensor) -> Change:
        """The block's change for changes of u, scale and shift."""
        n = _affine(b.u, b.rstd, -b.mean * b.rstd)
        ru_mean, bend = ru.mean((0, 2, 3)), (n * ru).mean((0, 2, 3))
        rn_picked = _affine(_pick(ru, b.picked), b.rstd, -b.rstd * ru_mean) - _affine(b.n_picked, b.rstd * bend)
        out = (_affine(rn_picked, b.scale, r_shift) + _affine(b.n_picked, r_scale)).mul_(b.out > 0)
        return Change(ru, r_scale, ru_mean, bend, rn_picked, out)

    def r_backward(self, b: Block, c: Change, d: Tensor, rd: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient by u, its change, and the changes of the gradients by scale and shift.

        dn = scale * dy, p = mean(dn), q = mean(n * dn), and du = rstd * (dn - p - q * n).
        """
        m, alive = b.u.numel() / b.u.shape[1], b.out > 0
        dy, rdy = d * alive, rd * alive
        dn = _affine(dy, b.scale)
        rdn = _affine(rdy, b.scale) + _affine(dy, c.r_scale)
        p, q = _sum(dn) / m, _sum(dn * b.n_picked) / m
        rp, rq = _sum(rdn) / m, _sum(rdn * b.n_picked + dn * c.rn_picked) / m
        bend = b.rstd * c.bend
        n = _affine(b.u, b.rstd, -b.mean * b.rstd)
        du = _affine(n, -b.rstd * q, -b.rstd * p) + _unpool(_affine(dn, b.rstd), b)
        # rdu = -bend du + rstd (rdn - rp - q rn - rq n) with rn = rstd (ru - mean(ru) - n bend), gathered by n and ru
        on_n = 2 * bend * b.rstd * q - b.rstd * rq
        constant = bend * b.rstd * p - b.rstd * rp + b.rstd * q * b.rstd * c.ru_mean
        rdu = _affine(n, on_n, constant).addcmul_(c.ru, _wide(-b.rstd * q * b.rstd))
        rdu += _unpool(_affine(rdn, b.rstd) - _affine(dn, bend * b.rstd), b)
        return du, rdu, _sum(rdy * b.n_picked + dy * c.rn_picked), _sum(rdy)


class CompiledBlockMath(BlockMath):
    """In fused kernels, for one task on the CPU: channels last in memory."""

    def forward(self, u: Tensor, scale: Tensor, shift: Tensor) -> Block:
        """Normalize, pool, ReLU."""
        u = _dense(u)
        return replace(self.forward_in_parts([u], scale, shift), u=u)

    def forward_in_parts(self, parts: Iterable[Tensor], scale: Tensor, shift: Tensor) -> Block:
        """The same for u given as parts of the items, which are read twice; the block does not keep u."""
        moments, items = torch.zeros(2, len(scale), dtype=torch.float64), 0
        near = torch.zeros_like(scale)
        for u in map(_dense, parts):
            if items == 0:
                near = u[0, :, 0, 0].clone()  # about the mean, so that squares do not cancel
            kernels.call("block_add_moments", u, near, moments.data_ptr(), *_size(u))  # doubles, whatever u is
            items += len(u)
        m1, m2 = (moments / (items * u.shape[2] * u.shape[3])).unbind()
        mean, rstd = (m1 + near).to(u.dtype), torch.rsqrt((m2 - m1 * m1).clamp(min=0) + EPS).to(u.dtype)
        scale, shift = scale.contiguous(), shift.contiguous()
        out = u.new_empty(items, u.shape[2] // 2, u.shape[3] // 2, u.shape[1]).permute(0, 3, 1, 2)
        n_picked, picked, start = torch.empty_like(out), torch.empty_like(out, dtype=torch.uint8), 0
        for u in map(_dense, parts):
            part = slice(start, start + len(u))
            maps = out[part], n_picked[part], picked[part]
            kernels.call("block_pool", u, mean, rstd, scale, shift, *maps, *_size(u))
            start += len(u)
        return Block(u.new_empty(0), scale, mean, rstd, picked, n_picked, out)

    def backward(self, b: Block, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by u, scale and shift from the gradient d of the output."""
        d_scale, d_shift = self.weights_backward(b, d)
        return self.input_backward(b, b.u, slice(None), d, d_scale, d_shift), d_scale, d_shift

    def weights_backward(self, b: Block, d: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by scale and shift from the gradient d of the output; u is not needed."""
        d = _dense(d)
        d_scale, d_shift = torch.empty_like(b.mean), torch.empty_like(b.mean)
        kernels.call("block_backward_sums", b.n_picked, b.out, d, d_scale, d_shift, *_size(b.out))
        return d_scale, d_shift

    def input_backward(self, b: Block, u: Tensor, items: slice, d: Tensor, d_scale: Tensor, d_shift: Tensor) -> Tensor:
        """Gradient by u of some items, from the whole block's other gradients."""
        u, d = _dense(u), _dense(d)
        du = torch.empty_like(u)
        pixels = len(b.out) * u.shape[2] * u.shape[3]
        kernels.call(
            "block_backward", u, b.picked[items], b.out[items], d[items], b.scale, b.mean, b.rstd, d_scale, d_shift, du,
            *_size(u), float(pixels),
        )  # fmt: skip
        return du

    def r_forward(self, b: Block, ru: Tensor, r_scale: Tensor, r_shift: Tensor) -> Change:
        """The block's change for changes of u, scale and shift."""
        ru, r_scale = _dense(ru), r_scale.contiguous()
        out, rn_picked = torch.empty_like(b.out), torch.empty_like(b.out)
        ru_mean, bend = torch.empty_like(b.mean), torch.empty_like(b.mean)
        kernels.call(
            "block_r_forward", b.u, ru, b.n_picked, b.picked, b.out, b.scale, b.mean, b.rstd, r_scale,
            r_shift.contiguous(), out, rn_picked, ru_mean, bend, *_size(b.u),
        )  # fmt: skip
        return Change(ru, r_scale, ru_mean, bend, rn_picked, out)

    def r_backward(self, b: Block, c: Change, d: Tensor, rd: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient by u, its change, and the changes of the gradients by scale and shift."""
        du, rdu = torch.empty_like(b.u), torch.empty_like(b.u)
        rd_scale, rd_shift = torch.empty_like(b.mean), torch.empty_like(b.mean)
        kernels.call(
            "block_r_backward", b.u, c.ru, b.n_picked, c.rn_picked, b.picked, b.out, b.scale, b.mean, b.rstd, c.r_scale,
            c.ru_mean, c.bend, _dense(d), _dense(rd), du, rdu, rd_scale, rd_shift, *_size(b.u),
        )  # fmt: skip
        return du, rdu, rd_scale, rd_shift


def block_math(tasks: int, *tensors: Tensor) -> BlockMath:
    """The fastest math for so many tasks whose images and weights are `tensors`."""
    return CompiledBlockMath() if tasks == 1 and kernels.available(*tensors) else BlockMath()


def _dense(maps: Tensor) -> Tensor:
    """Channels last in memory."""
    return maps.contiguous(memory_format=torch.channels_last)


def _size(maps: Tensor) -> tuple[int, int, int, int]:
    """S, H, W, C."""
    s, c, h, w = maps.shape
    return s, h, w, c


def _wide(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1)


def _affine(maps: Tensor, factor: Tensor, offset: Tensor | None = None) -> Tensor:
    """factor * maps + offset, both per channel."""
    return maps * _wide(factor) if offset is None else torch.addcmul(_wide(offset), maps, _wide(factor))


def _sum(maps: Tensor) -> Tensor:
    return maps.sum((0, 2, 3))


def _pick(maps: Tensor, picked: Tensor) -> Tensor:
    """Values of full-size maps at the pixels that the pool took, pooled size."""
    return maps.flatten(2).gather(2, picked.flatten(2)).view_as(picked)


def _unpool(pooled: Tensor, b: Block) -> Tensor:
    """Full-size maps with the pooled values at the pixels that the pool took, and zeros."""
    shape = ([2, 2], [2, 2], [0, 0], [1, 1], False)
    full: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(pooled, b.u, *shape, b.picked)
    return full
