"""Counted: a finished run as a report counts it, and as its .json holds it."""

from __future__ import annotations

from pydantic import ConfigDict

from runners.storage.schemas import Count, Duration, Record, Score, Words


class Run(Record):
    """A finished run.

    score: mean over its tasks (a mean squared error or an accuracy); median: over them; both None where all its tasks
    diverged. hours: training, validation and test; runs side by side each have a share of their common time; None where
    it was not recorded. folder: relative to the report's; None where the run is known by an earlier report alone.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    seed: Count
    score: Score
    median: Score
    diverged: Count
    hours: Duration | None
    device: Words
    versions: Words
    episodes: Words
    folder: str | None
