"""Summary: a cell in numbers, from its finished runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runners.reproduce.grid import Cell, Experiment, Scale, Score
from runners.reproduce.runs import Runs, best_validation
from runners.reproduce.statistics import Estimate, mean_over_runs, mean_without_outliers, median_over_runs
from runners.result import finite


@dataclass
class Summary:
    """Of every finished run: its score (mean over tasks), the median over its tasks, and more.

    scores and medians are mean squared errors or accuracies; a run all of whose tasks diverged has the worst: infinity
    or zero.
    """

    cell: Cell
    score: Score
    wanted: int
    scores: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    diverged: int = 0
    hours: list[float] = field(default_factory=list)
    """Of each run: training, validation and test; runs side by side each have a share of their common time."""
    devices: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    metric: str = "mse"

    @property
    def paper(self) -> Estimate | None:
        """The paper's statistic; None without a run."""
        return median_over_runs(self.scores) if self.scores else None

    @property
    def published(self) -> Estimate | None:
        """The published implementation's statistic; None without a run."""
        if not self.scores:
            return None
        return mean_over_runs(self.scores) if self.score == "validation" else mean_without_outliers(self.medians)


Summaries = dict[tuple[str, str], Summary]
"""By row and column."""


def summaries(experiment: Experiment, scale: Scale, runs: Runs) -> Summaries:
    """Every cell of an experiment, finished or not."""
    return {(cell.row, cell.column): _summary(experiment, cell, scale, runs) for cell in experiment.cells}


def _summary(experiment: Experiment, cell: Cell, scale: Scale, runs: Runs) -> Summary:
    found = Summary(cell, experiment.score, scale.seeds)
    for folder in runs.of(cell, scale).values():
        result = runs.result(cell, folder)
        if result is not None:
            _add(found, result, result if experiment.score == "test" else best_validation(folder, result))
    return found


def _add(found: Summary, result: dict[str, Any], scored: dict[str, Any]) -> None:
    """Count a run; scored: its test, or a validation in the same form."""
    found.metric = result["metric"]
    worst = math.inf if found.metric == "mse" else 0.0
    found.scores.append(worst if scored["mean"] is None else scored["mean"])
    found.medians.append(worst if scored["median"] is None else scored["median"])
    found.diverged += int(scored["diverged"])
    found.hashes.add(result["episode_hash"])
    found.versions.add(", ".join(f"{name} {number}" for name, number in result["versions"].items()))
    if "seconds" in result:
        found.hours.append(sum(result["seconds"].values()) / 3600 / result["side_by_side"])
        found.devices.add(result["device"])


def union(found: Summaries, name: Literal["versions", "hashes", "devices"]) -> list[str]:
    """What the runs have there, each once, sorted."""
    return sorted(set().union(*(getattr(summary, name) for summary in found.values())))


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
        "metric": summary.metric,
        "runs": len(summary.scores),
        "runs_wanted": summary.wanted,
        "scores": [finite(v) for v in summary.scores],
        "medians_over_tasks": [finite(v) for v in summary.medians],
        "diverged_tasks": summary.diverged,
        "hours": summary.hours,
        "devices": sorted(summary.devices),
        "versions": sorted(summary.versions),
        "episode_hashes": sorted(summary.hashes),
        "paper_statistic": estimate(summary.paper),
        "published_statistic": estimate(summary.published),
    }


def estimate(value: Estimate | None) -> dict[str, Any] | None:
    """An estimate as plain JSON."""
    return None if value is None else {"value": finite(value.value), "half": value.half, "runs": value.runs}
