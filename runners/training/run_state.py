"""Track: one run's folder while it is carried out: its progress, logs and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from fewshot_env.errors import FewShotError
from runners.config.plan import FREE, Plan
from runners.console.output import log
from runners.distributed.process_group import Team
from runners.loggers.base import Loggers
from runners.storage import checkpoint
from runners.training.running_means import Meter


class Progress(BaseModel):
    """How far a run is: all that its checkpoint holds besides the agent, the random state and the settings."""

    tasks_seen: int
    validated: int
    """tasks_seen at the last validation; -1 before the first."""
    best_score: float | None
    best_tasks: int
    meter: dict[str, list[float]]
    """What Meter had summed up for the next row of the log."""
    rows: int | None = None
    """Rows in metrics.jsonl and in charts.jsonl; these and what follows are None or empty in older checkpoints."""
    charts: int | None = None
    skipped: int = 0
    """Outer steps that were not finite, and so changed nothing."""
    seconds: dict[str, float] = {}
    """Wall-clock time by phase (runners.training.stopwatch)."""


START = Progress(tasks_seen=0, validated=-1, best_score=None, best_tasks=0, meter={}, rows=0, charts=0)


class Track:
    """One run's folder: its progress, logs and checkpoints. Only the team's leader writes."""

    def __init__(self, plan: Plan, folder: Path, team: Team) -> None:
        self.plan, self.folder, self.team = plan, folder, team
        self.content = checkpoint.load(folder / "last.pt", plan.device) if (folder / "last.pt").exists() else None
        self.at = START.model_copy(deep=True)
        if self.content is not None:
            self.at = checkpoint.fitting(Progress, self.content, folder / "last.pt")
            self._check(self.content)
        self.meter = Meter(self.at.meter if team.leads else None)
        self.loggers: Loggers | None = None

    def _check(self, content: dict[str, Any]) -> None:
        """Raise FewShotError where the folder does not hold what its last checkpoint was saved with."""
        then, now = dict(content.get("settings") or {}), self.plan.settings
        may_differ = {*FREE, "train_tasks", "test_tasks"}
        for key in sorted((then.keys() & now.keys()) - may_differ, key=lambda key: (key != "agent", key)):
            if then[key] != now[key]:
                raise FewShotError(
                    f"{self.folder / 'last.pt'} was trained with {key}={then[key]}, but config.json there says "
                    f"{now[key]}; put that back, or start anew with fsl run"
                )
        if self.at.best_score is not None and not (self.folder / "best.pt").exists():
            raise FewShotError(
                f"{self.folder} has lost its best.pt, the weights of its best validation (after {self.at.best_tasks} "
                "tasks); put it back, or start anew with fsl run"
            )

    def open_logs(self) -> None:
        """Go on with the logs, from where the run stands."""
        if self.team.leads:
            self.loggers = Loggers(self.folder, self.plan.settings, self.at.tasks_seen, self.at.rows, self.at.charts)

    def log(self, row: dict[str, float]) -> None:
        """Give the loggers a row; --verbose shows it."""
        if self.loggers is not None:
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
            log.debug(f"seed {self.plan.run.seed}, {self.at.tasks_seen} tasks: {values}")
            self.loggers.write(self.at.tasks_seen, row)

    def save(self, name: str, agent_state: dict[str, Any]) -> None:
        """Write a checkpoint, after what was logged before it."""
        assert self.loggers is not None, "the team's leader alone saves"
        self.loggers.flush()
        content = self.at.model_dump() | {
            "meter": self.meter.sums,
            "rows": self.loggers.rows.count,
            "charts": self.loggers.charts.count,
            "agent": agent_state,
            "rng": torch.get_rng_state(),
            "settings": self.plan.settings,
        }
        checkpoint.save(self.folder / name, content)
