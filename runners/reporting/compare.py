"""`fsl compare`: several runs on the same frozen test episodes, as numbers, a table and a picture.

All runs were tested on the same tasks, so their scores are compared task by task: how hard a task is cancels out in the
difference, whose interval is therefore narrower than that of two independent samples.
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
from runners.console.output import columns
from runners.evaluation.result import finite
from runners.evaluation.statistics import welch_half_width
from runners.reporting.figure_files import save_figure
from runners.storage.run_folder import members
from runners.storage.schemas import read_result

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """The test scores of a run, or of runs that differ in their seeds only."""

    name: str
    env: str
    metric: str
    episodes: str
    """The hash of the test episodes."""
    scores: Scores
    """[runs, tasks], NaN where a task diverged."""

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
    """The mean difference to the baseline over tasks that are finite in both, with half-widths of 95 % intervals."""

    mean: float
    paired: float
    """Over tasks, from the differences on each task: 1.96 standard errors."""
    unpaired: float
    """Over tasks, as if the two had been tested on different ones: 1.96 standard errors."""
    seeds: float | None
    """Over runs with other seeds, by Welch's t interval; None unless both have several runs."""
    tasks: int
    """The number of tasks that are finite in both."""
    diverged: int
    """How many more tasks than the baseline's are not finite."""


def read_scores(path: Path, name: str) -> Scored:
    """Read a run, a folder of runs by seed, or a file that `fsl eval` wrote; the result is called `name`.

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


def short_names(paths: Sequence[Path]) -> list[str]:
    """Distinct names for the paths: as few of their last parts as needed; a file is preceded by its run's folder."""
    whole = [path.resolve() for path in paths]
    parts = [(path.with_suffix("") if path.is_file() else path).parts for path in whole]
    few = 2 if any(path.is_file() for path in whole) else 1
    for n in range(few, max(map(len, parts))):
        found = ["/".join(part[-n:]) for part in parts]
        if len(set(found)) == len(set(whole)):
            return found
    return ["/".join(part) for part in parts]


def read_all(paths: Sequence[Path]) -> list[Scored]:
    """Read two or more results; raises FewShotError unless all were tested on the same episodes."""
    if len(paths) < 2:
        raise FewShotError("fsl compare needs two runs or more; the others are compared with the first")
    found = [read_scores(path, name) for path, name in zip(paths, short_names(paths), strict=True)]
    for path, other in zip(paths, found, strict=True):
        if (other.episodes, other.scores.shape[1]) != (found[0].episodes, found[0].scores.shape[1]):
            raise FewShotError(
                f"{path} was tested on other episodes ({other.episodes}, {other.env}) than {paths[0]} "
                f"({found[0].episodes}, {found[0].env}); test it on the same with fsl eval, and "
                "name the file that it writes"
            )
    return found


def difference(one: Scored, baseline: Scored) -> Difference:
    """The difference of `one` to the baseline, positive where its numbers are larger."""
    both = np.isfinite(one.by_task) & np.isfinite(baseline.by_task)
    a, b = one.by_task[both], baseline.by_task[both]
    seeds = None
    if min(len(one.scores), len(baseline.scores)) > 1:
        seeds = welch_half_width(one.by_run.tolist(), baseline.by_run.tolist())
    n, diverged = int(both.sum()), not_finite(one) - not_finite(baseline)
    if n < 2:
        return Difference(math.nan, math.nan, math.nan, seeds, n, diverged)
    unpaired = 1.96 * math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
    return Difference(float((a - b).mean()), _half_width(a - b), unpaired, seeds, n, diverged)


def mean_interval(one: Scored) -> tuple[float, float]:
    """Mean over tasks and runs, and the half-width of its 95 % interval over tasks."""
    values = one.by_task[np.isfinite(one.by_task)]
    if len(values) < 2:
        return math.nan, math.nan
    return float(values.mean()), _half_width(values)


def _half_width(values: Scores) -> float:
    """Half of the 95 % interval of the mean over tasks, of which there are many."""
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


def as_plain(found: Sequence[Scored]) -> list[dict[str, Any]]:
    """The comparison for JSON: a row for each run; a number that does not exist is None."""
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
    """The conclusion from the intervals: "better", "worse" or "no clear difference", with a reservation if any.

    The paired interval decides about these runs; where both have several seeds, the interval over seeds must agree.
    Tasks that are not finite are excluded from the means, so the verdict is flagged if the exclusion favours it.
    """
    if not abs(d.mean) > d.paired:
        return "no clear difference"
    if d.seeds is not None and not abs(d.mean) > d.seeds:
        return "no clear difference over seeds"
    better = (d.mean > 0) == (metric != "mse")
    if d.diverged and (d.diverged > 0) == better:
        return f"{'better' if better else 'worse'}, but diverges {'more' if better else 'less'} often"
    return "better" if better else "worse"


def table(found: Sequence[Scored]) -> str:
    """The comparison as aligned text: each run, and its difference to the first."""
    rows = [["", "runs", found[0].metric, "difference", "paired", "unpaired", "over seeds", ""]]
    for i, one in enumerate(found):
        mean, half = mean_interval(one)
        row = [one.name, str(len(one.scores)), f"{mean:.4f} ± {half:.4f}"]
        if i:
            d = difference(one, found[0])
            row += [f"{d.mean:+.4f}", f"± {d.paired:.4f}", f"± {d.unpaired:.4f}"]
            row += ["" if d.seeds is None else f"± {d.seeds:.4f}", verdict(d, one.metric)]
        rows.append(row + [""] * (8 - len(row)))
    kept = [c for c in range(8) if any(row[c] for row in rows[1:])]
    return "\n".join([columns([[row[c] for c in kept] for row in rows], indent=""), "", *notes(found)])


def notes(found: Sequence[Scored]) -> list[str]:
    """What the numbers of the table mean."""
    tasks, first = found[0].scores.shape[1], found[0]
    lines = [f"{tasks} test tasks of {first.env} (episodes {first.episodes}); differences to {first.name}."]
    lines += [
        "± is half of a 95 % interval over tasks (1.96 standard errors). Paired: from the differences on each task; it "
        "decides."
    ]
    if any(difference(one, first).seeds is not None for one in found[1:]):
        lines += [
            "Over seeds: half of a 95 % interval over runs (Welch's t), which includes how much training again varies; "
            "both decide."
        ]
    else:
        lines += ["The verdict is about these runs; how much training again varies, only several seeds (--seeds) show."]
    diverged = [f"{one.name} {n}" for one in found if (n := not_finite(one))]
    if diverged:
        lines += [f"Tasks that are not finite are excluded: {', '.join(diverged)}."]
    return lines


def plot(found: Sequence[Scored], file: Path) -> None:
    """Write the comparison as a picture, PNG or SVG by the file's ending: means, and differences to the first."""
    if file.suffix not in (".png", ".svg"):
        raise FewShotError(f"--plot {file} must end in .png or .svg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 + 0.5 * len(found)), dpi=120, layout="constrained")
    means, differences = figure.subplots(1, 2, sharey=True)
    for y, one in enumerate(found):
        mean, half = mean_interval(one)
        means.plot(one.by_run, [y] * len(one.scores), "|", color="#888888", markersize=12)
        means.errorbar(mean, y, xerr=half, fmt="o", color="#30638e", capsize=4)
        if y:
            d = difference(one, found[0])
            differences.errorbar(d.mean, y, xerr=d.unpaired, fmt="none", color="#c9c9c9", elinewidth=7)
            if d.seeds is not None:
                differences.errorbar(d.mean, y, xerr=d.seeds, fmt="none", color="#444444", elinewidth=1)
            differences.errorbar(d.mean, y, xerr=d.paired, fmt="o", color="#d1495b", capsize=4)
    differences.axvline(0, color="#444444", linewidth=1)
    means.set_yticks(range(len(found)), [one.name for one in found])
    means.set_ylim(len(found) - 0.5, -0.5)  # the first on top
    means.set(xlabel=found[0].metric, title="mean, 95 % over tasks (ticks: runs)")
    differences.set(xlabel=f"{found[0].metric}, difference to the first")
    differences.set_title("95 %: paired (red), unpaired (grey), over seeds (line)", fontsize=10)
    for axes in (means, differences):
        axes.grid(axis="x", alpha=0.3)
    try:
        save_figure(figure, file)
    except OSError as error:
        raise FewShotError(f"--plot {file} cannot be written ({error.strerror or error}); choose another") from error
