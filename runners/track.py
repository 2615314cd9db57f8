"""Track: one run's folder while it is carried out: its progress, logs and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from runners import checkpoint
from runners.loggers import Loggers, Meter
from runners.plan import Plan
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
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock time by phase (runners.stopwatch)."""


class Track:
    """One run's folder: its progress, logs and checkpoints. Only the team's leader writes."""

    def __init__(self, plan: Plan, folder: Path, team: Team) -> None:
        self.plan, self.folder, self.team = plan, folder, team
        self.content = checkpoint.load(folder / "last.pt", plan.device) if (folder / "last.pt").exists() else None
        self.at = Progress()
        if self.content is not None:
            names = ("tasks_seen", "validated", "best_score", "best_tasks")
            meter = Meter(self.content["meter"] if team.leads else None)
            known = {name: self.content[name] for name in names}
            self.at = Progress(**known, meter=meter, seconds=self.content.get("seconds", {}))
        self.loggers: Loggers | None = None

    def open_logs(self) -> None:
        """Go on with the logs, from where the run stands."""
        if self.team.leads:
            self.loggers = Loggers(self.folder, self.at.tasks_seen)

    def save(self, name: str, agent_state: dict[str, Any]) -> None:
        """Write a checkpoint."""
        at = self.at
        content = {
            "tasks_seen": at.tasks_seen,
            "validated": at.validated,
            "best_score": at.best_score,
            "best_tasks": at.best_tasks,
            "meter": at.meter.sums,
            "seconds": at.seconds,
            "agent": agent_state,
            "rng": torch.get_rng_state(),
            "settings": self.plan.settings,
        }
        checkpoint.save(self.folder / name, content)
