"""The inner objective of Conv4 with both derivatives written out.

A block is y = scale * n + shift with n = (u - mean) / std over items and pixels of u = conv(h), and then
h' = relu(max_pool(y)). Derivatives reach y only at the pixels that the pool picked, so most passes shrink to
the pooled size, and a Hessian-vector product costs little more than the convolutions in it. Names with an
r are derivatives along v (Pearlmutter's R-operator, 1994). B tasks are B groups of channels: C = B * filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.nets import EPS, Conv4Body, unpack
from agents.objective import Objective, output_curvature, output_delta


@dataclass
class Block:
    """One block's weights and forward pass. Full size [S, C, H, W], pooled [S, C, H/2, W/2], per channel [C]."""

    kernel: Tensor
    scale: Tensor
    h: Tensor
    u: Tensor
    mean: Tensor
    rstd: Tensor
    picked: Tensor
    """Pooled: the pixel that the pool took."""
    alive: Tensor
    """Pooled: whether the ReLU lets it pass."""


class Conv4Objective(Objective):
    """Conv4 with a linear head and batch statistics."""

    def gradient_of(self, params: Tensor, tasks: slice) -> tuple[Tensor, Tensor]:
        """Gradients [b, P] and losses [b] of some tasks with weights [b, P]."""
        w, y = self._weights(params), self.support.labels[tasks]
        blocks, features = self._forward(w, tasks)
        outputs = torch.baddbmm(w["head.bias"].unsqueeze(1), features, w["head.weight"].mT)
        delta = output_delta(self.spec, outputs, y)
        grads = [delta.sum(1), delta.mT @ features]
        d = self._to_map(delta @ w["head.weight"], blocks[-1])
        for i in reversed(range(len(blocks))):
            b = blocks[i]
            dy = _unpool(d.mul_(b.alive), b)
            du, d_scale, d_shift = torch.ops.aten.native_batch_norm_backward(
                dy, b.u, b.scale, None, None, b.mean, b.rstd, True, EPS, [True, True, True]
            )
            d, d_kernel = self._conv_backward(du, b.h, b.kernel, (i > 0, True))
            grads += [d_shift, d_scale, torch.zeros_like(d_shift), d_kernel]  # normalisation undoes the bias
        return _flat(grads[::-1], len(params)), self.spec.loss(outputs, y)

    def hessian_vector_of(self, params: Tensor, v: Tensor, tasks: slice) -> Tensor:
        """H v [b, P] of some tasks at weights [b, P]."""
        w, r, y = self._weights(params), self._weights(v), self.support.labels[tasks]
        blocks, features = self._forward(w, tasks)
        changes, r_features = self._r_forward(blocks, r)
        head, r_head = w["head.weight"], r["head.weight"]
        outputs = torch.baddbmm(w["head.bias"].unsqueeze(1), features, head.mT)
        r_outputs = torch.baddbmm(r["head.bias"].unsqueeze(1), features, r_head.mT).baddbmm_(r_features, head.mT)
        delta, r_delta = output_delta(self.spec, outputs, y), output_curvature(self.spec, outputs, r_outputs)
        products = [r_delta.sum(1), (r_delta.mT @ features).baddbmm_(delta.mT, r_features)]
        d = self._to_map(delta @ head, blocks[-1])
        rd = self._to_map((r_delta @ head).baddbmm_(delta, r_head), blocks[-1])
        for i in reversed(range(len(blocks))):
            b, c = blocks[i], changes[i]
            du, rdu, r_scale, r_shift = _r_normalise_backward(b, c, d.mul_(b.alive), rd.mul_(b.alive))
            rd, r_kernel = self._conv_backward(rdu, b.h, b.kernel, (i > 0, True))
            if i > 0:
                assert c.rh is not None
                d, more = self._conv_backward(du, c.rh, b.kernel, (True, True))
                r_kernel += more
                rd += self._conv_backward(du, b.h, c.r_kernel, (True, False))[0]
            products += [r_shift, r_scale, torch.zeros_like(r_shift), r_kernel]
        return _flat(products[::-1], len(params))

    def _weights(self, params: Tensor) -> dict[str, Tensor]:
        return unpack(params, self.net.body.shapes | self.net.head.shapes)

    def _forward(self, w: dict[str, Tensor], tasks: slice) -> tuple[list[Block], Tensor]:
        """The blocks, and the features [B, S, F]."""
        body = self.body
        x = self.support.x[tasks]
        h, blocks = body.to_groups(x), []
        for i in range(body.depth):
            kernel, bias, scale, shift = (
                w[f"block{i}.{n}"].flatten(0, 1) for n in ("weight", "bias", "scale", "shift")
            )
            u = F.conv2d(h, kernel, bias, padding=body.padding, groups=len(x))
            y, mean, rstd = torch.native_batch_norm(u, scale, shift, None, None, True, 0.0, EPS)
            pooled, picked = F.max_pool2d(y, 2, return_indices=True)
            blocks.append(Block(kernel, scale, h, u, mean, rstd, picked, pooled > 0))
            h = pooled.relu_()
        return blocks, body.from_groups(h, len(x))

    def _r_forward(self, blocks: list[Block], r: dict[str, Tensor]) -> tuple[list[Change], Tensor]:
        """The change of each block along v, and of the features [B, S, F]."""
        body, rh, changes = self.body, None, []
        groups = r["head.bias"].shape[0]
        for i, b in enumerate(blocks):
            kernel, scale, shift = (r[f"block{i}.{n}"].flatten(0, 1) for n in ("weight", "scale", "shift"))
            ru = F.conv2d(b.h, kernel, padding=body.padding, groups=groups)
            if rh is not None:
                ru += F.conv2d(rh, b.kernel, padding=body.padding, groups=groups)
            n = _affine(b.u, b.rstd, -b.mean * b.rstd)
            ru_mean, slope = ru.mean((0, 2, 3)), (n * ru).mean((0, 2, 3))
            n_picked = _pick(n, b.picked)
            rn_picked = _affine(_pick(ru, b.picked), b.rstd, -b.rstd * ru_mean) - _affine(n_picked, b.rstd * slope)
            changes.append(Change(rh, kernel, scale, n, ru, ru_mean, slope, n_picked, rn_picked))
            rh = (_affine(rn_picked, b.scale, shift) + _affine(n_picked, scale)).mul_(b.alive)
        assert rh is not None
        return changes, body.from_groups(rh, groups)

    def _conv_backward(self, du: Tensor, h: Tensor, kernel: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        """Derivatives by the input and by the kernel, where wanted."""
        padding, groups = [self.body.padding] * 2, kernel.shape[0] // self.body.filters
        d, d_kernel, _ = torch.ops.aten.convolution_backward(
            du, h, kernel, None, [1, 1], padding, [1, 1], False, [0, 0], groups, [*wanted, False]
        )
        return d, d_kernel

    def _to_map(self, features: Tensor, last: Block) -> Tensor:
        """Features [B, S, F] as pooled maps [S, C, H/2, W/2]."""
        tasks, items = features.shape[:2]
        return features.transpose(0, 1).reshape(items, tasks * self.body.filters, *last.picked.shape[2:])

    @property
    def body(self) -> Conv4Body:
        """The net's body."""
        assert isinstance(self.net.body, Conv4Body)
        return self.net.body


@dataclass
class Change:
    """The derivative along v of one block's forward pass, and its normalised activations n."""

    rh: Tensor | None
    r_kernel: Tensor
    r_scale: Tensor
    n: Tensor
    ru: Tensor
    ru_mean: Tensor
    slope: Tensor
    """Mean of n * ru: how the standard deviation changes."""
    n_picked: Tensor
    rn_picked: Tensor


def _r_normalise_backward(b: Block, c: Change, dy: Tensor, rdy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Through pool and normalisation: du and its change [S, C, H, W]; changes of the scale's and shift's gradients.

    dy and rdy are pooled, since both vanish elsewhere. With dn = scale * dy, p = mean(dn), q = mean(n * dn):
    du = rstd * (dn - p - n * q), where rstd itself changes by -rstd^2 * slope.
    """
    m = b.u.numel() / b.u.shape[1]
    dn = _affine(dy, b.scale)
    rdn = _affine(rdy, b.scale) + _affine(dy, c.r_scale)
    p, q = _sum(dn) / m, _sum(dn * c.n_picked) / m
    rp, rq = _sum(rdn) / m, _sum(rdn * c.n_picked + dn * c.rn_picked) / m
    bend = b.rstd * c.slope
    # du = rstd (dn - p - q n)
    du = _affine(c.n, -b.rstd * q, -b.rstd * p) + _unpool(_affine(dn, b.rstd), b)
    # rdu = -bend du + rstd (rdn - rp - q rn - rq n) with rn = rstd (ru - mean(ru) - n slope), gathered by n and ru
    on_n = bend * b.rstd * q - b.rstd * rq + b.rstd * q * bend
    constant = bend * b.rstd * p - b.rstd * rp + b.rstd * q * b.rstd * c.ru_mean
    rdu = _affine(c.n, on_n, constant).addcmul_(c.ru, _wide(-b.rstd * q * b.rstd))
    rdu += _unpool(_affine(rdn, b.rstd) - _affine(dn, bend * b.rstd), b)
    return du, rdu, _sum(rdy * c.n_picked + dy * c.rn_picked), _sum(rdy)


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


def _flat(parts: list[Tensor], tasks: int) -> Tensor:
    """Weight-shaped tensors of B tasks, tasks in front, as [B, P]."""
    return torch.cat([part.reshape(tasks, -1) for part in parts], 1)
