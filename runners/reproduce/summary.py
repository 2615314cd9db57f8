"""Summary: a cell in numbers, from its finished runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fewshot_env.errors import FewShotError
from runners.evaluation.result import finite
from runners.reproduce.counted import Run
from runners.reproduce.earlier import Earlier
from runners.reproduce.grid import Cell, Experiment, Scale
from runners.reproduce.runs import Runs, best_validation
from runners.reproduce.statistics import Estimate, mean_over_runs, mean_without_outliers, median_over_runs
from runners.storage.schemas import fit


@dataclass(frozen=True)
class Summary:
    """A cell with its finished runs.

    identity: their settings', resolved. wanted: how many runs there are to be.
    """

    experiment: Experiment
    cell: Cell
    identity: str
    wanted: int
    runs: Sequence[Run] = ()

    @property
    def scores(self) -> list[float]:
        """Of every run; the worst there is, infinity or zero, where all its tasks diverged."""
        return [self._or_worst(run.score) for run in self.runs]

    def _or_worst(self, score: float | None) -> float:
        return score if score is not None else math.inf if self.experiment.metric == "mse" else 0.0

    @property
    def hours(self) -> list[float]:
        """Of every run that recorded them."""
        return [run.hours for run in self.runs if run.hours is not None]

    @property
    def earlier(self) -> int:
        """How many runs are known by an earlier report alone."""
        return sum(run.folder is None for run in self.runs)

    @property
    def diverged(self) -> int:
        """Tasks that diverged, of all runs."""
        return sum(run.diverged for run in self.runs)

    @property
    def paper(self) -> Estimate | None:
        """The paper's statistic; None without a run."""
        return median_over_runs(self.scores) if self.runs else None

    @property
    def published(self) -> Estimate | None:
        """The published implementation's statistic; None without a run."""
        if not self.runs:
            return None
        if self.experiment.score == "validation":
            return mean_over_runs(self.scores)
        return mean_without_outliers([self._or_worst(run.median) for run in self.runs])


Summaries = dict[tuple[str, str], Summary]
"""By row and column."""


def summaries(experiment: Experiment, scale: Scale, runs: Runs, earlier: Earlier) -> Summaries:
    """Every cell of an experiment, finished or not; raises FewShotError where a cell's runs were not tested alike."""
    return {(cell.row, cell.column): _summary(experiment, cell, scale, runs, earlier) for cell in experiment.cells}


def _summary(experiment: Experiment, cell: Cell, scale: Scale, runs: Runs, earlier: Earlier) -> Summary:
    here: dict[int, Run] = {}
    for seed, folder in runs.of(cell, scale).items():
        result = runs.result(cell, folder)
        if result is not None:
            scored = result if experiment.score == "test" else best_validation(folder, result)
            here[seed] = _run(seed, result, scored, str(folder.relative_to(runs.out)))
    elsewhere = {seed: run for seed, run in earlier.of(experiment, cell, scale.name).items() if seed < scale.seeds}
    found = [run for _, run in sorted((elsewhere | here).items())]
    for run in found:
        if run.episodes != found[0].episodes:
            raise FewShotError(
                f"{cell.name}: its runs with seeds {found[0].seed} and {run.seed} were tested on different tasks, of "
                "different copies of the data, say; keep those of one"
            )
    return Summary(experiment, cell, runs.cell_identity(cell, scale), scale.seeds, found)


def _run(seed: int, result: dict[str, Any], scored: dict[str, Any], folder: str) -> Run:
    """A run as the report counts it; scored: its test, or a validation in the same form."""
    timed = {"seconds", "side_by_side", "device"} <= result.keys()
    numbers = {
        "seed": seed,
        "score": scored["mean"],
        "median": scored["median"],
        "diverged": int(scored["diverged"]),
        "hours": sum(result["seconds"].values()) / 3600 / result["side_by_side"] if timed else None,
        "device": result["device"] if timed else "",
        "versions": ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
        "episodes": result["episode_hash"],
        "folder": folder,
    }
    try:
        return fit(Run, numbers)
    except ValueError as error:
        raise FewShotError(f"the log of {folder} is not what fsl wrote ({error}); put it back") from error


def each_once(found: Summaries, what: Literal["versions", "episodes", "device"]) -> list[str]:
    """What the runs have there, each once, sorted."""
    return sorted({getattr(run, what) for summary in found.values() for run in summary.runs} - {""})


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None


def numbers(summary: Summary) -> dict[str, Any]:
    """A cell for the machine-readable report."""
    return {
        "row": summary.cell.row,
        "column": summary.cell.column,
        "settings": dict(summary.cell.settings),
        "target": summary.cell.target,
        "identity": summary.identity,
        "runs": [run.model_dump() for run in summary.runs],
        "runs_wanted": summary.wanted,
        "diverged_tasks": summary.diverged,
        "mean_hours": mean(summary.hours),
        "paper_statistic": estimate(summary.paper),
        "published_statistic": estimate(summary.published),
    }


def estimate(value: Estimate | None) -> dict[str, Any] | None:
    """An estimate as plain JSON."""
    return None if value is None else {"value": finite(value.value), "half": value.half, "runs": value.runs}
