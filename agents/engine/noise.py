"""Random numbers that are a function of a task's items: adaptation may draw, and still is a function of the support.

Counter-based (splitmix64's mixing, Steele, Lea & Flood 2014): no state, and the same on every device, in any order of
tasks, in any process.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The generator's increment and multipliers, as signed numbers."""


def uniform_from(items: Tensor, n: int) -> Tensor:
    """n numbers, uniform in (0, 1), for each task: [B, n] from items [B, S, ...] of floats."""
    words = torch.int64 if items.element_size() == 8 else torch.int32 if items.element_size() == 4 else torch.int16
    bits = items.contiguous().view(words).flatten(1).long()
    key = _mixed(bits + _STEP * _counter(bits.shape[1], items)).sum(1, keepdim=True)
    drawn = _mixed(key + _STEP * _counter(n, items))
    numbers = ((_shifted(drawn, 11).double() + 0.5) * 2.0**-53).to(items.dtype)
    edge = torch.finfo(items.dtype).eps
    return numbers.clamp(edge, 1 - edge)


def _counter(n: int, like: Tensor) -> Tensor:
    return torch.arange(1, n + 1, device=like.device)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (x >> by) & ((1 << (64 - by)) - 1)
