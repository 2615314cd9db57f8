"""CAVIA (Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson 2019): only a context adapts, the network does not.

    phi' = phi - lr * grad_phi L_support(phi, theta),   phi = 0 at first                              (their Eq. 2, 3)

Where the base learner has batch normalization, phi gives every channel a factor and an offset behind it (FiLM):
1 + (W_1 phi)_c and (W_2 phi)_c. Else phi is joined to the inputs of the first linear layer or convolution that has
biases: W phi is added to these.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.engine.inner_loop import UpdateRule
from agents.engine.reparametrized import Reparametrized
from agents.gradient_based import CLIP_ABOVE, CLIP_FIRST, GradientBased, GradientBasedConfig
from agents.networks import Network, replaced, unpack
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError


class CAVIAConfig(GradientBasedConfig):
    """Settings of CAVIA."""

    inner_lr: float = Field(1.0, gt=0, description="learning rate of the context in the inner loop (published: 1)")
    inner_steps: BoundedInt = Field(2, ge=1, description="T, updates per task in meta-training")
    context: BoundedInt = Field(100, ge=1, description="numbers in the context (published for sine: 2 to 5)")
    modulated: BoundedInt | None = Field(
        None,
        ge=1,
        description="the batch normalization that the context acts behind, counted from 1 (published: the third of "
        "Conv4); null: all",
    )
    inner_clip: float | None = Field(None, gt=0, description=CLIP_ABOVE)
    task_clip: float | None = Field(None, gt=0, description=CLIP_FIRST)
    body: Literal["adapted"] = Field(
        "adapted", description="the network below the head: no other choice, since the context acts in it"
    )

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Sine: 5 numbers, one update, as published. Images: a rate that left chance sooner here than 1."""
        if spec.kind == "regression":
            return {"context": 5, "inner_steps": 1, "meta_batch": 25}
        return super().paper(spec, n_shot) | {"inner_lr": 10.0, "meta_batch": 4 if n_shot < 5 else 2}


class Context(Reparametrized):
    """The coordinates are the context; its effect is linear in it."""

    def __init__(self, net: Network, size: int, modulated: int | None, lr: float) -> None:
        super().__init__(lr)
        self.shapes, self.size = net.shapes, size
        affine = net.body.affine
        if modulated is not None and modulated > len(affine):
            raise FewShotError(
                f"agent.modulated is {modulated}, but the network has {len(affine)} batch normalizations with scales; "
                "leave it null"
            )
        self.affine = affine if modulated is None else affine[modulated - 1 : modulated]
        self.bias = next((bias for bias in net.body.matrices().values() if bias), None)
        if not self.affine and self.bias is None:
            raise FewShotError(
                "CAVIA acts behind batch normalizations or on the biases of the first layer, and this network has "
                "neither; choose another agent.network"
            )
        acts_on = [name for pair in self.affine for name in pair] or [self.bias or ""]
        self.channels = [self.shapes[name][0] for name in acts_on]
        effect = torch.empty(1, size, sum(self.channels)).uniform_(-(size**-0.5), size**-0.5)
        self.effect = nn.Parameter(effect)  # [runs, context, channels]

    def first(self, theta: Tensor) -> Tensor:
        """Zeros."""
        return theta.new_zeros(len(theta), self.size)

    def weights(self, theta: Tensor, coordinates: Tensor) -> Tensor:
        """The weights, scales and shifts (or the first biases) changed by the context."""
        acts = (coordinates.unflatten(0, (len(self.effect), -1)) @ self.effect).flatten(0, 1).split(self.channels, 1)
        own = unpack(theta, self.shapes)
        if not self.affine:
            assert self.bias is not None
            return replaced(theta, self.shapes, {self.bias: own[self.bias] + acts[0]})
        new = {}
        for (scale, shift), factor, offset in zip(self.affine, acts[::2], acts[1::2], strict=True):
            new[scale] = own[scale] * (1 + factor)
            new[shift] = own[shift] * (1 + factor) + offset
        return replaced(theta, self.shapes, new)


class CAVIA(GradientBased):
    """CAVIA, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = CAVIAConfig
    stackable = True
    config: CAVIAConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent on the context."""
        return Context(net, self.config.context, self.config.modulated, self.config.inner_lr)
