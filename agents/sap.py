"""SAP (Huisman, Plaat & van Rijn 2023, Subspace adaptation prior): operations behind every layer adapt, weights do not.

    z' = (a_0 I + a_1 s I + a_2 diag(v) + a_3 M + sum over ranks of a_k U diag(sigma) V^T) z + c_1 t + c_2 u
    z = W x + b

Gradients act on the operations alone: scalars s and t, vectors v and u, the matrix M and the low-rank factors U, sigma
and V (as of a singular value decomposition). Their first values and their strengths a and c (softmaxes, one for each
sum) are learned with W and b: strength is how much of an operation's subspace a task can use. For convolutions the
operations mix channels. With all strength on the identity nothing adapts.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.engine.inner_loop import UpdateRule
from agents.engine.reparametrized import Reparametrized
from agents.gradient_based import CLIP_ABOVE, CLIP_FIRST, GradientBased, GradientBasedConfig
from agents.networks import Network, Shapes, replaced, size_of, unpack
from fewshot_env.episode import TaskSpec


class SAPConfig(GradientBasedConfig):
    """Settings of SAP."""

    inner_lr: float = Field(0.01, gt=0, description="learning rate of the operations in the inner loop")
    inner_steps: BoundedInt = Field(1, ge=1, description="T, updates per task in meta-training")
    eval_steps: BoundedInt | None = Field(10, ge=0, description="updates per task in validation and test")
    ranks: tuple[Annotated[BoundedInt, Field(ge=1)], ...] = Field(
        (5, 10, 15), description="ranks of the low-rank operations; those of a layer's width or more are left out"
    )
    inner_clip: float | None = Field(None, gt=0, description=CLIP_ABOVE)
    task_clip: float | None = Field(None, gt=0, description=CLIP_FIRST)
    body: Literal["adapted"] = Field("adapted", description="the network below the head: every layer has operations")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """4 tasks per step, as published. Images: a rate that left chance sooner here than the published 0.036."""
        rate = {} if spec.kind == "regression" else {"inner_lr": 3.0}
        return super().paper(spec, n_shot) | rate | {"meta_batch": 4}


class Operations(Reparametrized):
    """The coordinates are the operations of all layers, layer after layer."""

    def __init__(self, net: Network, ranks: tuple[int, ...], lr: float) -> None:
        super().__init__(lr)
        self.shapes, self.layers = net.shapes, net.matrices()
        self.ranks = [[rank for rank in ranks if rank < self.shapes[name][0]] for name in self.layers]
        self.parts = [_operations(self.shapes[name][0], own) for name, own in zip(self.layers, self.ranks, strict=True)]
        sizes = zip(self.parts, self.ranks, strict=True)
        first = [_first(name, shape, own) for parts, own in sizes for name, shape in parts.items()]
        self.operations = nn.Parameter(torch.cat(first).unsqueeze(0))  # [runs, C]
        self.strengths = nn.ParameterList(torch.zeros(1, 4 + len(own)) for own in self.ranks)  # [runs, products]
        self.shifts = nn.Parameter(torch.zeros(1, len(self.layers), 3))  # [runs, layers, shifts]

    def first(self, theta: Tensor) -> Tensor:
        """The learned first values."""
        return self.operations.repeat_interleave(len(theta) // len(self.operations), 0)

    def weights(self, theta: Tensor, coordinates: Tensor) -> Tensor:
        """The weights of every layer with its operations."""
        own, new = unpack(theta, self.shapes), {}
        per_run = len(theta) // len(self.operations)
        shifts = self.shifts.softmax(-1).repeat_interleave(per_run, 0)
        of_layers = coordinates.split([size_of(parts) for parts in self.parts], 1)
        for i, (name, bias) in enumerate(self.layers.items()):
            of_layer = unpack(of_layers[i], self.parts[i])
            strength = self.strengths[i].softmax(-1).repeat_interleave(per_run, 0)
            product = self._product(of_layer, strength, self.ranks[i])  # [B, out, out]
            new[name] = product @ own[name].flatten(2)
            if bias:
                shift = shifts[:, i, 1:2] * of_layer["scalar_shift"] + shifts[:, i, 2:] * of_layer["shift"]
                new[bias] = (product @ own[bias].unsqueeze(-1)).squeeze(-1) + shift
        return replaced(theta, self.shapes, new)

    def _product(self, of_layer: dict[str, Tensor], strength: Tensor, ranks: list[int]) -> Tensor:
        """The sum of the products [B, out, out], with their strengths [B, products]."""
        identity, scalar, vector, matrix, *low = strength.split(1, 1)
        whole: Tensor = matrix.unsqueeze(-1) * of_layer["matrix"]
        whole = whole + torch.diag_embed(identity + scalar * of_layer["scalar"] + vector * of_layer["vector"])
        if not ranks:
            return whole
        sigma = of_layer["sigma"] * torch.cat([part.expand(-1, rank) for part, rank in zip(low, ranks, strict=True)], 1)
        return whole + (of_layer["left"] * sigma.unsqueeze(1)) @ of_layer["right"].mT


def _operations(width: int, ranks: list[int]) -> Shapes:
    """The coordinates of a layer with so many outputs; the factors of all ranks side by side."""
    found: Shapes = {"scalar": (1,), "vector": (width,), "matrix": (width, width)}
    if ranks:
        found |= {"left": (width, sum(ranks)), "sigma": (sum(ranks),), "right": (width, sum(ranks))}
    return found | {"scalar_shift": (1,), "shift": (width,)}


def _first(name: str, shape: tuple[int, ...], ranks: list[int]) -> Tensor:
    """Products begin as the identity, or as the first columns of it; shifts at zero."""
    if name.endswith("shift"):
        return torch.zeros(math.prod(shape))
    if name in ("left", "right"):
        return torch.cat([torch.eye(shape[0], rank) for rank in ranks], 1).flatten()
    return torch.eye(*shape).flatten() if len(shape) > 1 else torch.ones(shape)


class SAP(GradientBased):
    """SAP, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = SAPConfig
    stackable = True
    config: SAPConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent on the operations."""
        return Operations(net, self.config.ranks, self.config.inner_lr)

    def distributions(self) -> dict[str, Tensor]:
        """The strengths of the products behind every layer (identity, scalar, vector, matrix, low ranks)."""
        rule = self.rule
        assert isinstance(rule, Operations)
        named = zip(rule.layers, rule.strengths, strict=True)
        return {f"strengths/{name.rpartition('.')[0]}": s.detach().softmax(-1) for name, s in named}
