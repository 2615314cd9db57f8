"""Summary: a cell in numbers, computed from its finished runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict

from runners.config.settings import Settings
from runners.evaluation.result import finite
from runners.reproduce.machinery.grid import Cell, Scored
from runners.reproduce.machinery.statistics import (
    Estimate,
    disjoint,
    mean_over_runs,
    mean_without_outliers,
    median_over_runs,
)
from runners.storage.schemas import Duration, NonNegativeInt, PrintableText, Record, Score


class CountedRun(Record):
    """A finished run, as a report's JSON holds it.

    score: mean over its tasks (a mean squared error or an accuracy); median: over them; both None where all its tasks
    diverged. hours: training, validation and test; runs trained together share their time equally; None where it was
    not recorded. folder: relative to the report's; None where only an earlier report lists the run.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    seed: NonNegativeInt
    score: Score
    median: Score
    diverged: NonNegativeInt
    hours: Duration | None
    device: PrintableText
    versions: PrintableText
    episodes: PrintableText
    folder: str | None


@dataclass(frozen=True)
class Summary:
    """A cell with its finished runs.

    scored: what a run's score is of. resolved: the settings that all its runs share. wanted: how many runs the scale
    asks for.
    """

    cell: Cell
    scored: Scored
    resolved: Settings
    wanted: int
    runs: Sequence[CountedRun] = ()

    @property
    def scores(self) -> list[float]:
        """One score per run; the worst possible one, infinity or zero, where all its tasks diverged."""
        return [self._or_worst(run.score) for run in self.runs]

    def _or_worst(self, score: float | None) -> float:
        return score if score is not None else math.inf if self.cell.metric == "mse" else 0.0

    @property
    def hours(self) -> list[float]:
        """The hours of the runs that recorded them."""
        return [run.hours for run in self.runs if run.hours is not None]

    @property
    def earlier(self) -> int:
        """How many runs only an earlier report lists."""
        return sum(run.folder is None for run in self.runs)

    @property
    def diverged(self) -> int:
        """How many tasks diverged, over all runs."""
        return sum(run.diverged for run in self.runs)

    @property
    def paper_statistic(self) -> Estimate | None:
        """The statistic that the paper states; None without a run."""
        return median_over_runs(self.scores) if self.runs else None

    @property
    def published_statistic(self) -> Estimate | None:
        """The statistic that the published implementation computed; None without a run."""
        if not self.runs:
            return None
        if self.scored == "validation":
            return mean_over_runs(self.scores)
        return mean_without_outliers([self._or_worst(run.median) for run in self.runs])

    @property
    def overlaps_reference(self) -> bool | None:
        """Whether our interval and the reference's, widened by its rounding, overlap; None where one is missing."""
        ours, reference = self.paper_statistic, self.cell.reference
        if reference is None or ours is None:
            return None
        clear = disjoint(ours, reference.widened)
        return None if clear is None else not clear

    def as_json(self) -> dict[str, Any]:
        """The cell in the report's JSON."""
        reference = self.cell.reference
        return {
            "row": self.cell.row,
            "column": self.cell.column,
            "settings": dict(self.cell.settings),
            "target": self.cell.target,
            "resolved": self.resolved,
            "runs": [run.model_dump() for run in self.runs],
            "runs_wanted": self.wanted,
            "diverged_tasks": self.diverged,
            "mean_hours": mean(self.hours),
            "paper_statistic": estimate_as_json(self.paper_statistic),
            "published_statistic": estimate_as_json(self.published_statistic),
            "reference": None if reference is None else estimate_as_json(reference.estimate),
            "overlaps_reference": self.overlaps_reference,
        }


Summaries = Mapping[tuple[str, str], Summary]
"""The cells of an experiment by row and column."""


def distinct(cells: Summaries, what: Literal["versions", "episodes", "device"]) -> list[str]:
    """The distinct values that the runs of all cells have, sorted."""
    return sorted({getattr(run, what) for summary in cells.values() for run in summary.runs} - {""})


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return sum(values) / len(values) if values else None


def estimate_as_json(value: Estimate | None) -> dict[str, Any] | None:
    """An estimate as plain JSON; null stands for what is not finite."""
    return None if value is None else {"value": finite(value.value), "half": value.half, "runs": value.runs}
