"""Flat weights: all weights of a network as one vector, and the named tensors in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

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


def matrices(shapes: Shapes) -> dict[str, str | None]:
    """Weights [out, in, ...] with more than one axis, each with the name of its bias [out], or None."""
    found: dict[str, str | None] = {}
    for name, shape in shapes.items():
        bias = name.removesuffix("weight") + "bias" if name.endswith("weight") else ""
        if len(shape) > 1:
            found[name] = bias if shapes.get(bias) == shape[:1] else None
    return found


def replaced(params: Tensor, shapes: Shapes, new: Mapping[str, Tensor]) -> Tensor:
    """Flat weights [B, P] with some named tensors [B, *shape] in the place of their own."""
    parts = params.split([math.prod(s) for s in shapes.values()], dim=-1)
    return torch.cat([new[n].flatten(1) if n in new else p for n, p in zip(shapes, parts, strict=True)], -1)


def by_weight(of_layers: Tensor, layers: Iterable[slice]) -> Tensor:
    """A number for each layer [B, L] as one for each weight [B, P], where the layers lie one after the other."""
    columns = zip(of_layers.split(1, 1), layers, strict=True)
    return torch.cat([column.expand(-1, where.stop - where.start) for column, where in columns], 1)


def unpack(params: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of flat weights [B, P] as named tensors [B, *shape]."""
    parts = params.split([math.prod(s) for s in shapes.values()], dim=-1)
    return {name: part.unflatten(-1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
