"""Tasks of different shapes: numbers of classes and items that are drawn for every task (as Meta-Dataset does).

Triantafillou et al. (2020) draw ways and shots for every episode. Here the shape, like all of a task, is a function of
its seed; tensors are dense, so tasks that are dealt at once have one shape, and `by_shape` finds such tasks.
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
"""Where in a task's random numbers those stand that draw its shape: far behind those that draw the rest."""

MOST = 10_000
"""No task has more classes, or more items of a class, than this."""

Count = int | tuple[int, int]
"""A number, or the lowest and the highest of a number that is drawn uniformly for every task."""


def at_least(least: int) -> BeforeValidator:
    """Reads a Count: 5, "5", "3-10" or (3, 10), none of them below `least`."""

    def read(value: Any) -> Count:
        parts = value.split("-") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        whole = all(isinstance(part, int) or (isinstance(part, str) and part.strip().isdecimal()) for part in parts)
        numbers = [int(part) for part in parts] if whole and not any(isinstance(part, bool) for part in parts) else []
        if len(numbers) not in (1, 2) or not least <= numbers[0] <= numbers[-1] <= MOST:
            raise ValueError(f"it must be a whole number from {least} to {MOST}, or two of them, LOW-HIGH")
        return numbers[0] if numbers[0] == numbers[-1] else (numbers[0], numbers[-1])

    return BeforeValidator(read)


def ends(count: Count) -> tuple[int, int]:
    """The lowest and the highest number."""
    return (count, count) if isinstance(count, int) else count


def draw_counts(task_seeds: Sequence[int], first: int, places: int, count: Count) -> NDArray[np.int64]:
    """[B, places]: numbers drawn uniformly from the lowest to the highest, by a shape's draws from `first` on."""
    low, high = ends(count)
    if low == high:
        return np.full((len(task_seeds), places), low)
    u = uniforms(task_seeds, places, SHAPE_DRAWS + first)
    return low + (u * (high - low + 1)).astype(np.int64)


class VaryingSampler(TaskSampler, Protocol):
    """A family whose tasks can have different numbers of classes or items: `sample` takes tasks of one shape."""

    varies: bool
    """Whether, with these settings, they have."""

    def shapes(self, task_seeds: Sequence[int]) -> NDArray[np.int64]:
        """[B, 3]: each task's outputs (ways, or 1), support items and query items, without dealing it."""
        ...


def varies(sampler: TaskSampler) -> bool:
    """Whether the tasks of a family have different shapes."""
    return bool(getattr(sampler, "varies", False))


def shapes(sampler: TaskSampler, task_seeds: Sequence[int]) -> NDArray[np.int64]:
    """[B, 3]: the outputs (ways, or 1), support items and query items of tasks of any family."""
    if varies(sampler):
        return cast(VaryingSampler, sampler).shapes(task_seeds)
    same = (sampler.spec.n_outputs, sampler.support_size, sampler.query_size)
    return np.tile(np.array(same, dtype=np.int64), (len(task_seeds), 1))


def by_shape(sampler: TaskSampler, task_seeds: Sequence[int], most: int) -> list[list[int]]:
    """Portions of the tasks, by number (0 .. B - 1), that can be dealt at once: of one shape, and `most` at most."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes(sampler, task_seeds).tolist()):
        groups.setdefault(tuple(shape), []).append(i)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def the_shape(found: NDArray[np.int64]) -> tuple[int, int, int]:
    """The one shape in `found` [B, 3]; raises FewShotError where there are several."""
    if (found != found[0]).any():
        other = found[(found != found[0]).any(1)][0]
        raise FewShotError(
            f"tasks of different shapes (outputs, support, query) can not be dealt at once: {found[0].tolist()} and "
            f"{other.tolist()}; deal those of one shape together (fewshot_env.shapes.by_shape)"
        )
    outputs, support, query = found[0].tolist()
    return outputs, support, query
