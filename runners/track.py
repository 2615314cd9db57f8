"""Track: one run's folder while it is carried out: its progress, logs and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from runners import checkpoint
from runners.loggers import Loggers
from runners.meter import Meter
from runners.plan import Plan
from runners.say import log
from runners.team import Team


@dataclass
class Progress:
    """How far a run is: all that its checkpoint holds besides the agent."""

    tasks_seen: int = 0
    validated: int = -1
    """tasks_seen at the last validation; -1 before the first."""
    best_score: float | None = None
    best_tasks: int = 0
    meter: Meter = field(default_factory=Meter)
    rows: int | None = 0
    """Rows in metrics.jsonl; None in checkpoints that do not say."""
    skipped: int = 0
    """Outer steps that were not finite, and so changed nothing."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock time by phase (runners.stopwatch)."""


class _Held(BaseModel):
    """A run's progress in a checkpoint; the last three are younger than the rest."""

    tasks_seen: int
    validated: int
    best_score: float | None
    best_tasks: int
    meter: dict[str, list[float]]
    rows: int | None = None
    skipped: int = 0
    seconds: dict[str, float] = {}


class Track:
    """One run's folder: its progress, logs and checkpoints. Only the team's leader writes."""

    def __init__(self, plan: Plan, folder: Path, team: Team) -> None:
        self.plan, self.folder, self.team = plan, folder, team
        self.content = checkpoint.load(folder / "last.pt", plan.device) if (folder / "last.pt").exists() else None
        self.at = Progress()
        if self.content is not None:
            held = checkpoint.fitting(_Held, self.content, folder / "last.pt")
            meter = Meter(held.meter if team.leads else None)
            self.at = Progress(**held.model_dump(exclude={"meter"}), meter=meter)
        self.loggers: Loggers | None = None

    def open_logs(self) -> None:
        """Go on with the logs, from where the run stands."""
        if self.team.leads:
            self.loggers = Loggers(self.folder, self.plan.settings, self.at.tasks_seen, self.at.rows)

    def log(self, row: dict[str, float]) -> None:
        """Give the loggers a row; --verbose shows it."""
        if self.loggers is not None:
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
            log.debug(f"seed {self.plan.run.seed}, {self.at.tasks_seen} tasks: {values}")
            self.loggers.write(self.at.tasks_seen, row)

    def save(self, name: str, agent_state: dict[str, Any]) -> None:
        """Write a checkpoint, after what was logged before it."""
        at = self.at
        if self.loggers is not None:
            self.loggers.flush()
        content = {
            "tasks_seen": at.tasks_seen,
            "validated": at.validated,
            "best_score": at.best_score,
            "best_tasks": at.best_tasks,
            "meter": at.meter.sums,
            "rows": None if self.loggers is None else self.loggers.rows,
            "skipped": at.skipped,
            "seconds": at.seconds,
            "agent": agent_state,
            "rng": torch.get_rng_state(),
            "settings": self.plan.settings,
        }
        checkpoint.save(self.folder / name, content)
