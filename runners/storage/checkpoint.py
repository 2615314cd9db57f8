"""Checkpoints: one file of tensors and plain types, written aside and renamed, loaded without unpickling code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from agents.saved import read as load
from agents.saved import write as save
from fewshot_env.errors import FewShotError
from fewshot_env.settings import fit
from runners.config.settings import Settings

__all__ = ["RunPlace", "RunProgress", "fitting", "load", "save"]


class RunProgress(BaseModel):
    """How far a run is: all that its checkpoint holds besides the agent, the random state and the settings."""

    tasks_seen: int
    validated: int
    """tasks_seen at the last validation; -1 before the first."""
    best_score: float | None
    best_tasks: int
    meter: dict[str, list[float]]
    """Sums and counts by tag since the last row of the log."""
    rows: int | None = None
    """Rows in metrics.jsonl and in charts.jsonl; these and what follows are None or empty in older checkpoints."""
    charts: int | None = None
    untrained: float | None = None
    """Mean of the validation before any training, as reported; None where it was not made."""
    untrained_ci95: float | None = None
    """Its interval, while it is the best validation."""
    skipped: int = 0
    """Outer steps that were skipped because their loss or gradient was not finite."""
    seconds: dict[str, float] = {}
    """Wall-clock time by phase: train, validation, test."""


@dataclass(frozen=True)
class RunPlace:
    """A run's folder, its settings, and how many tasks its agent had been trained on."""

    folder: Path
    settings: Settings
    tasks_seen: int


Model = TypeVar("Model", bound=BaseModel)


def fitting(model: type[Model], content: dict[str, Any], file: Path) -> Model:
    """The part of a checkpoint that `model` describes; raises FewShotError where it does not match."""
    try:
        return fit(model, content)
    except ValueError as error:
        raise FewShotError(
            f"the checkpoint {file} is not one of a run ({error}); use another run, or start anew"
        ) from error
