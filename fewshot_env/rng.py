"""Counter-based random numbers: a task is a pure function of its task seed.

SplitMix64 (Steele, Lea & Flood 2014) over a (seed, counter) grid. It is vectorised over tasks (a
`numpy.random.Generator` per task costs more than the rest of a sine task) and its integers are the
same on every platform and in every numpy version, so that frozen test episodes stay frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError

SPLITS = ("train", "val", "test")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: a bijection of 64-bit integers in which every bit touches every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_bits(keys: Sequence[int] | NDArray[np.uint64], start: int, count: int) -> NDArray[np.uint64]:
    """Numbers `start` .. `start + count - 1` of the streams `keys` [B]; returns uint64 [B, count]."""
    origin = _mix(np.asarray(keys, dtype=np.uint64) ^ _GOLDEN)  # mixed, so that near keys lie far apart
    counter = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    return _mix(origin[:, None] + counter * _GOLDEN)


def uniforms(task_seeds: Sequence[int] | NDArray[np.uint64], count: int, start: int = 0) -> NDArray[np.float64]:
    """Return [B, count] numbers in [0, 1), from number `start` on: row b depends on task seed b alone."""
    return (random_bits(task_seeds, start, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def task_seeds(seed: int, split: str, start: int, count: int) -> list[int]:
    """Task seeds number `start` .. `start + count - 1` of a run: `count` integers in [0, 2^63).

    Task i of a split depends on (seed, split, i) alone, so a resumed run, or a run that splits its
    tasks over processes, deals the same tasks.
    """
    if not 0 <= seed < 2**63:
        raise FewShotError(f"seed is {seed}, but must lie in [0, 2^63)")
    key = random_bits([seed], SPLITS.index(split), 1)[0]
    return [int(s) for s in random_bits(key, start, count)[0] >> np.uint64(1)]


def draw_distinct(u: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw without replacement (a partial Fisher-Yates shuffle): m distinct numbers a row.

    u [R, m] holds uniforms in [0, 1); row r draws from range(sizes[r]), sizes [R] >= m. Returns [R, m].
    """
    n_rows, m = u.shape
    steps = np.arange(m)[:, None]
    picks = steps + (u.T * (sizes - steps)).astype(np.int64)  # [m, R]
    places = picks * n_rows + np.arange(n_rows)
    pool = np.repeat(np.arange(sizes.max(initial=0)), n_rows)  # number p of row r stands at p R + r
    drawn = np.empty_like(picks)
    for j in range(m):  # place j is never looked at again, so nothing need be put there
        drawn[j] = pool[places[j]]
        pool[places[j]] = pool[j * n_rows : (j + 1) * n_rows]
    return drawn.T
