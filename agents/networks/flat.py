"""Flat weights: all weights of a network as one vector, and the named tensors in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
EPS = 1e-5  # of batch normalization


def uniform_fan_in(shape: tuple[int, ...], fan_in: int, generator: torch.Generator | None) -> Tensor:
    """PyTorch's default initialization: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(fan_in)


def size_of(shapes: Shapes) -> int:
    """Number of weights."""
    return sum(math.prod(s) for s in shapes.values())


def unpack(params: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of flat weights [B, P] as named tensors [B, *shape]."""
    parts = params.split([math.prod(s) for s in shapes.values()], dim=-1)
    return {name: part.unflatten(-1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
