"""T-net and MT-net (Lee & Choi 2018): gradient descent below a learned linear map of every layer's outputs.

    y = T (W x + b),   W' = W - lr * mask * grad_W L_support,   b alike          (their Eq. 5, 9 and 10)

T, square, begins as the identity and is the same for all tasks; for convolutions it mixes the channels. With the
identity and without a mask it is MAML. MT-net draws for every task which rows of [W, b] adapt: row j with probability
sigmoid(zeta_j), learned by the straight-through Gumbel estimator. What is drawn is a function of the support's
items, in training and evaluation.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.engine.inner_loop import UpdateRule
from agents.engine.noise import uniform_from
from agents.engine.reparametrized import BeginsElsewhere
from agents.gradient_based import CLIP_ABOVE, CLIP_FIRST, GradientBased, published_clip
from agents.maml import MAMLConfig
from agents.networks import Network, replaced, unpack
from fewshot_env.episode import Split, TaskSpec


class MTNetConfig(MAMLConfig):
    """Settings of T-net and MT-net: MAML's, and the mask."""

    inner_clip: float | None = published_clip(CLIP_ABOVE)
    task_clip: float | None = published_clip(CLIP_FIRST)
    masked: bool = Field(True, description="a learned mask of the rows that adapt (MT-net); else all do (T-net)")
    body: Literal["adapted"] = Field("adapted", description="the network below the head: every layer adapts")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Sine: as published for MT-net, one update."""
        paper = super().paper(spec, n_shot)
        return paper | {"meta_batch": 4} if spec.kind == "regression" else paper


class LearnedMaps(BeginsElsewhere):
    """Descent on the weights W below the maps; those above are linear in them, so that a step is taken above.

    V = T W,   V' = V - lr * T (mask * T^T grad_V)
    """

    def __init__(self, net: Network, masked: bool, lr: float) -> None:
        super().__init__()
        self.lr, self.shapes, self.layers = lr, net.shapes, net.matrices()
        sizes = [self.shapes[name][0] for name in self.layers]
        self.maps = nn.ParameterList(torch.eye(n).unsqueeze(0) for n in sizes)  # [runs, out, out]
        self.logits = nn.Parameter(torch.zeros(1, sum(sizes))) if masked else None  # [runs, rows]

    def begin(self, theta: Tensor, support: Split) -> tuple[Tensor, Tensor | None]:
        """T W and T b of every layer (others, of normalizations, as they are), and the tasks' masks."""
        return self._mapped(theta, list(self.maps)), self.mask(support)

    def forward(
        self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """New weights above the maps from weights and gradients [B, P]."""
        if state is None:
            change = self._mapped(grads, [matrix @ matrix.mT for matrix in self.maps])
        else:
            change = self._mapped(state * self._mapped(grads, [m.mT for m in self.maps]), list(self.maps))
        return params - self.lr * change, state

    def _mapped(self, values: Tensor, maps: list[Tensor]) -> Tensor:
        """Flat values [B, P], those of every layer multiplied from the left by its matrix [runs, out, out]."""
        given, new = unpack(values, self.shapes), {}
        for (name, bias), matrix in zip(self.layers.items(), maps, strict=True):
            joined = [given[name].flatten(2)] + ([given[bias].unsqueeze(-1)] if bias else [])
            by_run = torch.cat(joined, -1).unflatten(0, (len(matrix), -1))  # [R, b, out, in + 1]
            mapped = (matrix.unsqueeze(1) @ by_run).flatten(0, 1)
            new[name] = mapped[..., :-1] if bias else mapped
            if bias:
                new[bias] = mapped[..., -1]
        return replaced(values, self.shapes, new)

    def mask(self, support: Split) -> Tensor | None:
        """Which rows adapt in each task, 0 or 1, for every weight [B, P]."""
        if self.logits is None:
            return None
        tasks, (runs, rows) = len(support.x), self.logits.shape
        noise = uniform_from(support.x, rows)
        logits = self.logits.repeat_interleave(tasks // runs, 0) + noise.log() - (-noise).log1p()
        soft = logits.sigmoid()
        drawn = (logits > 0).to(soft) - soft.detach() + soft  # the value of the draw, the gradient of the probability
        by_layer = dict(zip(self.layers, drawn.split([self.shapes[name][0] for name in self.layers], 1), strict=True))
        whole = {}
        for (name, bias), part in zip(self.layers.items(), by_layer.values(), strict=True):
            whole[name] = part.view(*part.shape, *[1] * (len(self.shapes[name]) - 1)).expand(-1, *self.shapes[name])
            if bias:
                whole[bias] = part
        n_weights = sum(torch.Size(shape).numel() for shape in self.shapes.values())
        return replaced(drawn.new_ones(tasks, n_weights), self.shapes, whole)


class MTNet(GradientBased):
    """T-net or MT-net, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = MTNetConfig
    stackable = True
    config: MTNetConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent below the maps."""
        return LearnedMaps(net, self.config.masked, self.config.inner_lr)

    def distributions(self) -> dict[str, Tensor]:
        """The probabilities with which rows adapt, by layer."""
        assert isinstance(self.rule, LearnedMaps)
        logits, layers = self.rule.logits, self.rule.layers
        if logits is None:
            return {}
        parts = logits.detach().sigmoid().split([self.net.shapes[name][0] for name in layers], 1)
        return {f"adapts/{name.rpartition('.')[0]}": part for name, part in zip(layers, parts, strict=True)}
