"""Counted: a finished run as a report counts it. A report's .json holds all of its own."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from runners.records import Count, Hours, Record, Score, Text
from runners.result import finite


@dataclass(frozen=True)
class Run:
    """A finished run, as the report counts it.

    score: mean over its tasks (a mean squared error or an accuracy); median: over them. Where all its tasks diverged
    both are the worst there is, infinity or zero. hours: training, validation and test; runs side by side each have a
    share of their common time; None where it was not recorded.
    """

    seed: int
    score: float
    median: float
    diverged: int
    hours: float | None
    device: str
    versions: str
    episodes: str
    folder: str


class RunRecord(Record):
    """A run in JSON: as `Run`, with None for infinity."""

    seed: Count
    score: Score
    median: Score
    diverged: Count
    hours: Hours | None
    device: Text
    versions: Text
    episodes: Text
    folder: Text


def to_record(run: Run) -> dict[str, Any]:
    """A run for JSON."""
    return asdict(run) | {"score": finite(run.score), "median": finite(run.median)}


def from_record(record: RunRecord) -> Run:
    """A run from JSON."""
    worst = {name: math.inf for name in ("score", "median") if getattr(record, name) is None}
    return Run(**record.model_dump() | worst)
