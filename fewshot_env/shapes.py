"""Tasks of different shapes: the numbers of classes and items are drawn for every task, as in Meta-Dataset.

Triantafillou et al. (2020) draw ways and shots for every episode. Here they are a function of the task seed, like the
rest of a task. Tensors are dense, so only tasks of one shape can be sampled in one call; `by_shape` groups tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from fewshot_env.errors import FewShotError
from fewshot_env.rng import uniforms
from fewshot_env.sampler import TaskSampler

SHAPE_DRAWS = 2**40
"""Position in a task's random numbers of those that draw its shape: far behind those that draw the rest."""

MAX_ITEMS = 10_000
"""The most classes of a task, and the most items of a class."""

IntRange = int | tuple[int, int]
"""A number, or the bounds (low, high), both included, of a number that is drawn uniformly for every task."""


def at_least(least: int) -> BeforeValidator:
    """A pydantic validator that reads an IntRange from 5, "5", "3-10" or (3, 10), none of them below `least`."""

    def read(value: Any) -> IntRange:
        parts = value.split("-") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        whole = all(isinstance(part, int) or (isinstance(part, str) and part.strip().isdecimal()) for part in parts)
        numbers = [int(part) for part in parts] if whole and not any(isinstance(part, bool) for part in parts) else []
        if len(numbers) not in (1, 2) or not least <= numbers[0] <= numbers[-1] <= MAX_ITEMS:
            raise ValueError(f"it must be a whole number from {least} to {MAX_ITEMS}, or two of them, LOW-HIGH")
        return numbers[0] if numbers[0] == numbers[-1] else (numbers[0], numbers[-1])

    return BeforeValidator(read)


def bounds(value: IntRange) -> tuple[int, int]:
    """The lowest and the highest number of a range."""
    return (value, value) if isinstance(value, int) else value


def draw_counts(task_seeds: Sequence[int], first: int, count: int, between: IntRange) -> NDArray[np.int64]:
    """Draw `count` integers for each of B tasks, uniformly from a range; returns int64 [B, count].

    first: position, among the random numbers that draw a task's shape, of the first one to use.
    """
    low, high = bounds(between)
    if low == high:
        return np.full((len(task_seeds), count), low)
    u = uniforms(task_seeds, count, SHAPE_DRAWS + first)
    return low + (u * (high - low + 1)).astype(np.int64)


class VaryingSampler(TaskSampler, Protocol):
    """A task family whose tasks can have different numbers of classes or items; `sample` takes tasks of one shape."""

    varies: bool
    """Whether tasks have different shapes with these settings."""

    def shapes(self, task_seeds: Sequence[int]) -> NDArray[np.int64]:
        """int64 [B, 3]: each task's outputs (ways, or 1), support items and query items, without sampling the task."""
        ...


def varies(sampler: TaskSampler) -> bool:
    """Whether the tasks of a family have different shapes."""
    return bool(getattr(sampler, "varies", False))


def shapes(sampler: TaskSampler, task_seeds: Sequence[int]) -> NDArray[np.int64]:
    """int64 [B, 3]: the outputs (ways, or the values of a regression), support items and query items of B tasks."""
    if varies(sampler):
        return cast(VaryingSampler, sampler).shapes(task_seeds)
    same = (sampler.spec.n_outputs, sampler.support_size, sampler.query_size)
    return np.tile(np.array(same, dtype=np.int64), (len(task_seeds), 1))


def by_shape(sampler: TaskSampler, task_seeds: Sequence[int], most: int) -> list[list[int]]:
    """Group B tasks into batches that `sample` accepts.

    Args:
        sampler: the task family.
        task_seeds: B task seeds.
        most: the most tasks in a batch.

    Returns:
        Batches of indices into `task_seeds`; all tasks of a batch have one shape.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes(sampler, task_seeds).tolist()):
        groups.setdefault(tuple(shape), []).append(i)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def common_shape(of_tasks: NDArray[np.int64]) -> tuple[int, int, int]:
    """The shape (outputs, support items, query items) that all tasks in `of_tasks` [B, 3] have.

    Raises:
        FewShotError: where the tasks have different shapes.
    """
    differs = (of_tasks != of_tasks[0]).any(1)
    if differs.any():
        raise FewShotError(
            "tasks of different shapes (outputs, support, query) cannot be sampled in one call: "
            f"{of_tasks[0].tolist()} and {of_tasks[differs][0].tolist()}; sample those of one shape together "
            "(fewshot_env.shapes.by_shape)"
        )
    outputs, support, query = of_tasks[0].tolist()
    return outputs, support, query
