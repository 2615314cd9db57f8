"""Steps: y jumps from one level to another at a position that differs from task to task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.rng import uniforms
from fewshot_env.sampler import TaskConfig


class StepsConfig(TaskConfig):
    """Settings of the steps: `fsl run --set env.NAME=VALUE` changes one, `fsl show steps` explains them."""

    n_shot: int = Field(5, ge=1, description="support points")
    n_query: int = Field(50, ge=1, description="query points")
    height: float = Field(4.0, gt=0, description="levels lie in [-height, height]")


class Steps:
    """Samples steps: both levels, the position of the jump, and x are uniform."""

    Config: ClassVar[type[TaskConfig]] = StepsConfig

    def __init__(self, **settings: Any) -> None:
        self.config = config = StepsConfig(**settings)
        self.spec = TaskSpec(
            "regression", in_shape=(1,), n_outputs=1, n_base_classes=1,
            x_range=(-5.0, 5.0), y_range=(-2 * config.height, 2 * config.height),
        )  # fmt: skip
        self.support_size = 0 if config.minibatch else config.n_shot
        self.query_size = config.minibatch or config.n_query
        self.fingerprint = f"steps-v0 {config.model_dump_json()}"

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Sample one task per seed: x and y [B, S, 1] and [B, Q, 1]; a minibatch holds points of as many tasks."""
        s, q = self.support_size, self.query_size
        tasks = q if self.config.minibatch else 1
        u = 2 * uniforms(task_seeds, 3 * tasks + s + q) - 1  # [B, ...] in [-1, 1): a function of the seed only
        before, after, jump, x = np.split(u, [tasks, 2 * tasks, 3 * tasks], axis=1)
        x = 5 * x  # [B, S + Q]
        y = self.config.height * np.where(x < 3 * jump, before, after)

        def split(items: slice) -> Split:
            return Split(_column(x[:, items]), _column(y[:, items]))

        return Episode(split(slice(s)), split(slice(s, s + q)))


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)[..., None])
