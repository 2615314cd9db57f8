"""Counter-based random numbers, so that a task is a pure function of its task seed.

SplitMix64 (Steele, Lea & Flood 2014) over a (seed, counter) grid: vectorized over tasks (creating a
`numpy.random.Generator` per task costs more than the rest of a sine task), with the same integers on every platform
and in every numpy version, so that frozen test episodes never change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError

SPLITS = ("train", "val", "test")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: a bijection of 64-bit integers in which every input bit affects every output bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_bits(keys: Sequence[int] | NDArray[np.uint64], start: int, count: int) -> NDArray[np.uint64]:
    """Random 64-bit integers of B streams.

    Args:
        keys: B stream keys, integers in [0, 2^64).
        start: position in the streams of the first number to return.
        count: how many numbers to return of each stream.

    Returns:
        uint64 [B, count]: numbers `start` .. `start + count - 1` of each stream.
    """
    origin = _mix(np.asarray(keys, dtype=np.uint64) ^ _GOLDEN)  # mixed, so that similar keys give unrelated streams
    counter = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    return _mix(origin[:, None] + counter * _GOLDEN)


def uniforms(task_seeds: Sequence[int] | NDArray[np.uint64], count: int, start: int = 0) -> NDArray[np.float64]:
    """Uniform random numbers for B tasks: row b depends on task seed b only.

    Args:
        task_seeds: B integers in [0, 2^64).
        count: how many numbers to return for each task.
        start: position in each task's stream of the first number to return.

    Returns:
        float64 [B, count] in [0, 1).
    """
    return (random_bits(task_seeds, start, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def task_seeds(seed: int, split: str, start: int, count: int) -> list[int]:
    """Task seeds of a run.

    Task i of a split depends on (seed, split, i) only, so a resumed run, or a run that divides its tasks among
    processes, samples the same tasks.

    Args:
        seed: the run's seed, in [0, 2^63).
        split: "train", "val" or "test".
        start: number of the first task.
        count: how many task seeds to return.

    Returns:
        `count` integers in [0, 2^63), for tasks `start` .. `start + count - 1`.

    Raises:
        FewShotError: where `seed` is out of range.
    """
    if not 0 <= seed < 2**63:
        raise FewShotError(f"seed is {seed}, but must lie in [0, 2^63)")
    key = random_bits([seed], SPLITS.index(split), 1)[0]
    return [int(s) for s in random_bits(key, start, count)[0] >> np.uint64(1)]


def draw_distinct(u: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw m distinct integers per row, without replacement (a partial Fisher-Yates shuffle).

    Args:
        u: [R, m] uniform numbers in [0, 1), for example from `uniforms`.
        sizes: int64 [R], each at least m; row r draws from range(sizes[r]).

    Returns:
        int64 [R, m].
    """
    n_rows, m = u.shape
    steps = np.arange(m)[:, None]
    picks = steps + (u.T * (sizes - steps)).astype(np.int64)  # [m, R]
    places = picks * n_rows + np.arange(n_rows)
    pool = np.repeat(np.arange(sizes.max(initial=0)), n_rows)  # number p of row r is at p R + r
    drawn = np.empty_like(picks)
    for j in range(m):  # place j is never read again, so it need not be filled
        drawn[j] = pool[places[j]]
        pool[places[j]] = pool[j * n_rows : (j + 1) * n_rows]
    return drawn.T
