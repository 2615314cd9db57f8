"""Heads: what turns features into predictions, as functions of flat weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.networks.flat import Shapes, uniform_fan_in, unpack


class LinearHead:
    """Logits or values: x W^T + b; PyTorch's default weights, zero bias."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        self.shapes: Shapes = {"head.weight": (n_outputs, n_features), "head.bias": (n_outputs,)}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        return torch.zeros(shape) if name.endswith("bias") else uniform_fan_in(shape, shape[1], generator)

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """params [B, P_head], features [B, S, F] -> [B, S, N]."""
        w = unpack(params, self.shapes)
        return torch.baddbmm(w["head.bias"].unsqueeze(1), features, w["head.weight"].transpose(1, 2))


class CosineHead:
    """Baseline++ (Chen et al. 2019): scale x gain_c x cosine(feature, weight_c).

    gain: a learned factor per class, initially |weight_c| (weight normalization, as in Chen's and the
    published code), or fixed to 1 (a pure cosine).
    """

    def __init__(self, n_features: int, n_outputs: int, scale: float, learn_gain: bool) -> None:
        self.scale, self.learn_gain = scale, learn_gain
        self.shapes: Shapes = {"head.weight": (n_outputs, n_features)}
        if learn_gain:
            self.shapes["head.gain"] = (n_outputs,)
        self._norm = math.sqrt(1 / 3)  # |w| of U(-1/sqrt(F), 1/sqrt(F)) weights, in expectation

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        if name.endswith("gain"):
            return torch.full(shape, self._norm)
        return uniform_fan_in(shape, shape[1], generator)

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """params [B, P_head], features [B, S, F] -> [B, S, N]."""
        w = unpack(params, self.shapes)
        cosine = F.normalize(features, dim=-1, eps=1e-5) @ F.normalize(w["head.weight"], dim=-1).transpose(1, 2)
        return self.scale * (cosine * w["head.gain"].unsqueeze(1) if self.learn_gain else cosine)


class NearestMeanHead:
    """Minus the scaled squared distance of centred, L2-normalized features from each class's mean."""

    def __init__(self, n_features: int, n_outputs: int, scale: float) -> None:
        self.scale = scale
        self.shapes: Shapes = {"head.means": (n_outputs, n_features), "head.centre": (n_features,)}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Zeros: adaptation sets them."""
        return torch.zeros(shape)

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """params [B, P_head], features [B, S, F] -> [B, S, N]."""
        w = unpack(params, self.shapes)
        z, means = F.normalize(features - w["head.centre"].unsqueeze(1), dim=-1), w["head.means"]
        squared = z.square().sum(-1, keepdim=True) - 2 * z @ means.mT + means.square().sum(-1).unsqueeze(1)
        return -self.scale * squared


class NoHead:
    """Features as they are."""

    shapes: Shapes = {}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """It has no weights."""
        raise KeyError(name)

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """features [B, S, F] -> [B, S, F]."""
        return features


Head = LinearHead | CosineHead | NearestMeanHead | NoHead
