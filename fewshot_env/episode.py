"""The types that environments and agents share: Split, Episode and TaskSpec.

B = tasks in a batch, S = support items, Q = query items, N = ways. Agents see these types and
never an environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_env.errors import FewShotError


@dataclass(frozen=True)
class Split:
    """Items of B tasks.

    Args:
        x: [B, S, *in_shape] float32 (images in [0, 1], CHW; uint8 only inside samplers).
        y: int64 [B, S] in [0, N) for classification, float32 [B, S, N] for regression with N outputs, or None while
            the answers are hidden.
    """

    x: Tensor
    y: Tensor | None

    @property
    def labels(self) -> Tensor:
        """The answers y; raises ValueError where they are hidden."""
        if self.y is None:
            raise ValueError("this split has no answers: query answers appear only after step")
        return self.y

    def __getitem__(self, index: slice) -> Split:
        """The items of tasks `index`."""
        return Split(self.x[index], None if self.y is None else self.y[index])

    def empty(self) -> Split:
        """The same tasks without items: S = 0."""
        return Split(self.x[:, :0], self.labels[:, :0])

    def to(self, device: torch.device | str) -> Split:
        """Move to `device`; uint8 images become float32 in [0, 1] there."""
        x = self.x.to(device, non_blocking=True)
        if x.dtype == torch.uint8:
            x = x.float().div_(255)
        return Split(x, None if self.y is None else self.y.to(device, non_blocking=True))


@dataclass(frozen=True)
class Episode:
    """B tasks: support [B, S, ...] and query [B, Q, ...]; query.y is None before `step`."""

    support: Split
    query: Split

    @classmethod
    def from_obs(cls, obs: Mapping[str, Any]) -> Episode:
        """Read an observation of the vector environment (torch tensors with a leading B)."""
        return cls(Split(obs["support_x"], obs["support_y"]), Split(obs["query_x"], None))

    def restrict(self, predictions: Tensor) -> Tensor:
        """Scores [B, Q, N] of the n classes that the tasks' supports have: [B, Q, n]. Anything else stays as it is.

        Where ways are drawn for every task, a network has outputs for the most classes. Raises ValueError where the
        predictions are not one row for each query item.
        """
        items = tuple(self.query.x.shape[:2])
        if predictions.dim() != 3 or predictions.shape[:2] != items:
            raise ValueError(
                f"predictions are {list(predictions.shape)}, but must be [B, Q, N] = [{items[0]}, {items[1]}, N]"
            )
        y = self.support.labels
        return predictions if y.is_floating_point() or not y.numel() else predictions[..., : int(y.amax()) + 1]

    def to(self, device: torch.device | str) -> Episode:
        """Move to `device`; uint8 images become float32 in [0, 1] there."""
        return Episode(self.support.to(device), self.query.to(device))


@dataclass(frozen=True)
class TaskSpec:
    """What an agent must know of its tasks.

    A family with another loss derives a class and overrides `loss`: the inner loop, the outer loop and the log use it.

    Args:
        kind: "classification" or "regression".
        in_shape: the shape of one item: (3, 84, 84) for images.
        n_outputs: N: the ways, or the values to predict of each item.
        n_base_classes: classes of the train split; 1 for regression.
        x_range: bounds of the inputs; images lie in (0, 1), which is all their normalization.
        y_range: bounds of the answers; (0, N - 1) for classification.
        class_names: the classes of the train split, where they have names.
    """

    kind: Literal["classification", "regression"]
    in_shape: tuple[int, ...]
    n_outputs: int
    n_base_classes: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.in_shape, tuple) and all(type(n) is int and n > 0 for n in self.in_shape)):
            raise FewShotError(f"TaskSpec.in_shape is {self.in_shape!r}, but must be a tuple of positive whole numbers")
        if not (type(self.n_outputs) is int and self.n_outputs > 0):
            raise FewShotError(f"TaskSpec.n_outputs is {self.n_outputs!r}, but must be a positive whole number")

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Mean loss per task [B]: cross-entropy of logits [B, Q, N], or mean squared error of values [B, Q, N]."""
        if self.kind == "regression":
            return (predictions - targets).square().mean((1, 2))
        nll = F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), reduction="none")
        return nll.view(targets.shape).mean(1)

    def score(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Score per task [B], higher is better: accuracy in [0, 1], or minus the mean squared error.

        For classification, predictions are logits [B, Q, N] or labels [B, Q]; for regression values [B, Q, N].
        """
        if self.kind == "regression":
            return -(predictions - targets).square().mean((1, 2))
        labels = predictions.argmax(-1) if predictions.dim() == 3 else predictions
        return (labels == targets).float().mean(1)

    @property
    def metric(self) -> str:
        """The name of the reported number: "accuracy" (higher is better) or "mse" (lower is better)."""
        return "accuracy" if self.kind == "classification" else "mse"

    def reported(self, score: float) -> float:
        """A score as people report it: accuracy as it is, the squared error without its minus."""
        return score if self.kind == "classification" else -score
