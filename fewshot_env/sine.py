"""Sine regression (Finn et al. 2017; paper, Sect. 5.1): y = A sin(x + phase), optionally with higher harmonics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.rng import uniforms
from fewshot_env.sampler import TaskConfig
from fewshot_env.shapes import MAX_ITEMS, IntRange, at_least, bounds, common_shape, draw_counts

Range = tuple[float, float]


class SineConfig(TaskConfig):
    """Settings of the sine tasks; the defaults are the paper's, with the published 50 query points."""

    n_shot: Annotated[IntRange, at_least(1)] = Field(
        5, description="support points; LOW-HIGH: the number is drawn for every task"
    )
    n_query: int = Field(
        50, ge=1, le=MAX_ITEMS, description="query points (the published code uses 50, in training too)"
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on the support targets")
    amplitude: Range = Field((0.1, 5.0), description="range of A")
    phase: Range = Field((0.0, math.pi), description="range of the phase, in radians")
    x_range: Range = Field((-5.0, 5.0), description="range of x, in radians")
    harmonics: tuple[float, ...] = Field(
        (),
        description="h2, h3, ... of y = A (sin u + h2 sin 2u + h3 sin 3u + ...), u = x + phase",
    )

    @field_validator("amplitude", "phase", "x_range")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not value[0] <= value[1]:
            raise ValueError("a range is (low, high) with low <= high")
        return value


class SineSampler:
    """Samples sine tasks: A, phase and x are uniform over their ranges; only support targets carry noise.

    Args:
        settings: fields of `SineConfig`: split, minibatch, n_shot (support points), n_query (query points), noise
            (standard deviation), amplitude, phase and x_range (each (low, high); phase and x in radians), harmonics.

    Raises:
        SettingError: where a setting is unknown or has a wrong value.

    Example:
        >>> SineSampler(n_shot=5, n_query=50).sample([1, 2]).support.x.shape
        torch.Size([2, 5, 1])
    """

    Config: ClassVar[type[TaskConfig]] = SineConfig

    def __init__(self, **settings: Any) -> None:
        self.config = config = SineConfig(**settings)
        reach = 2 * max(abs(a) for a in config.amplitude) * (1 + sum(abs(h) for h in config.harmonics))
        self.spec = TaskSpec("regression", (1,), 1, 1, config.x_range, (-reach, reach))
        self.varies = not (config.minibatch or isinstance(config.n_shot, int))
        self.support_size = 0 if config.minibatch else bounds(config.n_shot)[1]
        self.query_size = config.minibatch or config.n_query
        unused = None if config.harmonics else {"harmonics"}  # without any, the fingerprint is as in older versions
        self.fingerprint = f"sine-v0 {config.model_dump_json(exclude=unused)}"

    def shapes(self, task_seeds: Sequence[int]) -> NDArray[np.int64]:
        """int64 [B, 3]: 1 output, and each task's numbers of support and query points."""
        shots = draw_counts(task_seeds, 0, 1, self.config.n_shot)[:, 0]
        return np.stack([np.ones_like(shots), shots, np.full_like(shots, self.config.n_query)], axis=1)

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Sample one task per seed.

        Args:
            task_seeds: B integers in [0, 2^64).

        Returns:
            Support x and y float32 [B, S, 1], query x and y float32 [B, Q, 1]; x within `x_range`. With `minibatch`
            = m > 0 the support is empty and the query holds m points, each from a different task.

        Raises:
            FewShotError: where the tasks of these seeds have different shapes (a drawn `n_shot`).
        """
        c = self.config
        s, q = (0, c.minibatch) if c.minibatch else common_shape(self.shapes(task_seeds))[1:]
        curves, most_s = q if c.minibatch else 1, self.support_size
        u = uniforms(task_seeds, 2 * curves + most_s + q + 2 * most_s)
        amplitude = _between(u[:, :curves], c.amplitude)  # [B, 1], or [B, Q] in a minibatch
        phase = _between(u[:, curves : 2 * curves], c.phase)
        x = _between(u[:, 2 * curves : 2 * curves + s + q], c.x_range)  # [B, S + Q]
        harmonics = enumerate((1.0, *c.harmonics), start=1)
        y = amplitude * sum((h * np.sin(k * (x + phase)) for k, h in harmonics), np.zeros_like(x))
        if c.noise and s:
            noise = u[:, -2 * most_s :]
            y[:, :s] += c.noise * _normal(noise[:, :s], noise[:, most_s : most_s + s])
        return Episode(Split(_column(x[:, :s]), _column(y[:, :s])), Split(_column(x[:, s:]), _column(y[:, s:])))


def _between(u: NDArray[np.float64], limits: Range) -> NDArray[np.float64]:
    return limits[0] + (limits[1] - limits[0]) * u


def _normal(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal numbers from two arrays of uniform ones (Box-Muller)."""
    normal: NDArray[np.float64] = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * math.pi * v)
    return normal


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)[..., None])
