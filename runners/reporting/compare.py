"""`fsl compare`: several runs on the same frozen test episodes, task by task.

All runs were tested on the same tasks, so their scores are compared in pairs: a task that is hard for one is hard for
the other, the difference does not know how hard it was, and its interval is narrower than that of two samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError
from runners.evaluation.result import finite
from runners.storage.run_folder import members
from runners.storage.schemas import read_result

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """A run, or runs that differ in their seeds: the scores [runs, tasks] on frozen episodes, NaN where diverged."""

    name: str
    env: str
    metric: str
    episodes: str
    """The hash of the test episodes."""
    scores: Scores

    @property
    def by_task(self) -> Scores:
        """The mean over runs for every task [tasks]; NaN where it diverged in one of them."""
        return np.asarray(self.scores.mean(0))

    @property
    def by_run(self) -> Scores:
        """The mean over tasks for every run [runs], as in its result.json."""
        return np.asarray(np.nanmean(self.scores, 1))


@dataclass(frozen=True)
class Difference:
    """Mean difference to the baseline over the tasks that both solved, with halves of its 95 % intervals."""

    mean: float
    paired: float
    """Over tasks, as pairs."""
    unpaired: float
    """Over tasks, as if the two had met different ones."""
    seeds: float | None
    """Over runs with other seeds, where both have several."""
    tasks: int
    diverged: int
    """How many more tasks than the baseline's are not finite in one of the runs."""


def read(path: Path, name: str) -> Scored:
    """The result of a run, of a folder of runs by seed, or of a file that `fsl eval` wrote, to be called `name`.

    Raises FewShotError where there is none, or runs in one folder were tested on different episodes.
    """
    places = [path] if path.is_file() else members(path)
    results = [read_result(place) for place in places]
    first = results[0]
    for place, result in zip(places, results, strict=True):
        if (result["episode_hash"], result["tasks"]) != (first["episode_hash"], first["tasks"]):
            raise FewShotError(f"{place} and {places[0]} were tested on different episodes; compare them one by one")
    scores = np.array([result["scores"] for result in results], dtype=float)  # null becomes NaN
    return Scored(name, first["env"], first["metric"], first["episode_hash"], scores)


def names(paths: Sequence[Path]) -> list[str]:
    """What tells the paths apart: their last parts, as few as will do; a file's run stands before it."""
    whole = [path.resolve() for path in paths]
    parts = [(path.with_suffix("") if path.is_file() else path).parts for path in whole]
    few = 2 if any(path.is_file() for path in whole) else 1
    for n in range(few, max(map(len, parts))):
        found = ["/".join(part[-n:]) for part in parts]
        if len(set(found)) == len(set(whole)):
            return found
    return ["/".join(part) for part in parts]


def read_all(paths: Sequence[Path]) -> list[Scored]:
    """Two or more results on the same episodes; raises FewShotError where they are not."""
    if len(paths) < 2:
        raise FewShotError("fsl compare needs two runs or more; the first is the one that the others are compared with")
    found = [read(path, name) for path, name in zip(paths, names(paths), strict=True)]
    for path, other in zip(paths, found, strict=True):
        if (other.episodes, other.scores.shape[1]) != (found[0].episodes, found[0].scores.shape[1]):
            raise FewShotError(
                f"{path} was tested on other episodes ({other.episodes}, {other.env}) than {paths[0]} "
                f"({found[0].episodes}, {found[0].env}); test it on the same with fsl eval, and give the file it writes"
            )
    return found


def difference(one: Scored, baseline: Scored) -> Difference:
    """How one differs from the baseline, positive where its numbers are larger."""
    both = np.isfinite(one.by_task) & np.isfinite(baseline.by_task)
    a, b = one.by_task[both], baseline.by_task[both]
    seeds = None
    if min(len(one.scores), len(baseline.scores)) > 1:
        seeds = _half(one.by_run.var(ddof=1) / len(one.scores) + baseline.by_run.var(ddof=1) / len(baseline.scores))
    n, diverged = int(both.sum()), not_finite(one) - not_finite(baseline)
    if n < 2:
        return Difference(math.nan, math.nan, math.nan, seeds, n, diverged)
    unpaired = _half((a.var(ddof=1) + b.var(ddof=1)) / n)
    return Difference(float((a - b).mean()), _half((a - b).var(ddof=1) / n), unpaired, seeds, n, diverged)


def mean_interval(one: Scored) -> tuple[float, float]:
    """Mean over tasks and runs, and half of its 95 % interval over tasks."""
    values = one.by_task[np.isfinite(one.by_task)]
    if len(values) < 2:
        return math.nan, math.nan
    return float(values.mean()), _half(values.var(ddof=1) / len(values))


def _half(variance: Any) -> float:
    return 1.96 * math.sqrt(variance)


def numbers(found: Sequence[Scored]) -> list[dict[str, Any]]:
    """The comparison for machines: a row for each run; null is a number that there is not."""
    rows: list[dict[str, Any]] = []
    for one in found:
        mean, half = mean_interval(one)
        row = {"name": one.name, "env": one.env, "episode_hash": one.episodes, "runs": len(one.scores)}
        row |= {"metric": one.metric, "mean": finite(mean), "ci95": finite(half), "not_finite": not_finite(one)}
        if rows:
            d = difference(one, found[0])
            parts = {key: None if value is None else finite(value) for key, value in asdict(d).items()}
            row["difference"] = parts | {"verdict": verdict(d, one.metric)}
        rows.append(row)
    return rows


def not_finite(one: Scored) -> int:
    """The number of tasks that diverged in one of the runs."""
    return int(np.isnan(one.by_task).sum())


def verdict(d: Difference, metric: str) -> str:
    """What the intervals say: "better", "worse" or "not told apart", with what speaks against it.

    The paired interval decides about these very runs; where there are several seeds, that over them must agree. Tasks
    that are not finite are in no mean, so that having more of them is named.
    """
    if not abs(d.mean) > d.paired:
        return "not told apart"
    if d.seeds is not None and not abs(d.mean) > d.seeds:
        return "not told apart over seeds"
    better = (d.mean > 0) == (metric != "mse")
    if d.diverged and (d.diverged > 0) == better:
        return f"{'better' if better else 'worse'}, but diverges {'more' if better else 'less'} often"
    return "better" if better else "worse"
