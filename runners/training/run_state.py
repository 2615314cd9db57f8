"""RunState: where one run stands, in memory and in its folder: progress, logs and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fewshot_env.errors import FewShotError
from runners.config.plan import NON_SEMANTIC_KEYS, Plan
from runners.config.settings import upgraded
from runners.console.output import log
from runners.distributed.process_group import ProcessGroup
from runners.loggers.all_loggers import Loggers
from runners.storage import checkpoint
from runners.storage.checkpoint import RunPlace, RunProgress
from runners.training.running_means import RunningMeans

START = RunProgress(tasks_seen=0, validated=-1, best_score=None, best_tasks=0, meter={}, rows=0, charts=0)


class RunState:
    """One run's plan, folder, progress and running means. Only the main process writes.

    Raises FewShotError where the folder's last checkpoint is of another run, or its best weights are lost.
    """

    def __init__(self, plan: Plan, folder: Path, group: ProcessGroup) -> None:
        self.plan, self.folder, self.group = plan, folder, group
        self.checkpoint = checkpoint.load(folder / "last.pt", plan.device) if (folder / "last.pt").exists() else None
        self.progress = START.model_copy(deep=True)
        if self.checkpoint is not None:
            self.progress = checkpoint.fitting(RunProgress, self.checkpoint, folder / "last.pt")
            self._verify(self.checkpoint)
        self.means = RunningMeans(self.progress.meter if group.is_main else None)
        self.loggers: Loggers | None = None
        self.tasks = ""

    @property
    def place(self) -> RunPlace:
        """Where the run stands."""
        return RunPlace(self.folder, self.plan.settings, self.progress.tasks_seen)

    def _verify(self, content: dict[str, Any]) -> None:
        """Raise FewShotError where the folder does not hold what its last checkpoint was saved with."""
        then, now = upgraded(content.get("settings") or {}), self.plan.settings
        may_differ = {*NON_SEMANTIC_KEYS, "train_tasks", "test_tasks"}
        for key in sorted((then.keys() & now.keys()) - may_differ, key=lambda key: (key != "agent", key)):
            if then[key] != now[key]:
                raise FewShotError(
                    f"{self.folder / 'last.pt'} was trained with {key}={then[key]}, but config.json there says "
                    f"{now[key]}; put that back, or start anew with fsl run"
                )
        if self.progress.best_score is not None and not (self.folder / "best.pt").exists():
            raise FewShotError(
                f"{self.folder} has lost its best.pt, the weights of its best validation (after "
                f"{self.progress.best_tasks} tasks); put it back, or start anew with fsl run"
            )

    def train_on(self, tasks: str) -> None:
        """Note the fingerprint of the training tasks; raises FewShotError where the run was begun with others."""
        then = (self.checkpoint or {}).get("tasks") or tasks
        if then != tasks:
            raise FewShotError(
                f"the training data of {self.folder} are not those that it was begun with; prepare them as they were "
                f"({self.plan.pair.source.name}), or start anew with fsl run"
            )
        self.tasks = tasks

    def open_logs(self) -> None:
        """Continue the logs from where the run stands."""
        if self.group.is_main:
            at = self.progress
            self.loggers = Loggers(self.folder, self.plan.settings, at.tasks_seen, at.rows, at.charts)

    def log(self, row: dict[str, float]) -> None:
        """Give the loggers a row; --verbose shows it."""
        if self.loggers is not None:
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
            log.debug(f"seed {self.plan.run.seed}, {self.progress.tasks_seen} tasks: {values}")
            self.loggers.write(self.progress.tasks_seen, row)

    def save(self, name: str, agent_state: dict[str, Any], description: dict[str, Any]) -> None:
        """Write a checkpoint, after what was logged before it.

        Args:
            name: best.pt or last.pt.
            agent_state: `Agent.state`.
            description: what rebuilds the agent (agents.saved.describe).
        """
        assert self.loggers is not None, "only the main process saves"
        self.loggers.flush()
        content = self.progress.model_dump() | {
            "meter": self.means.sums,
            "rows": self.loggers.rows.count,
            "charts": self.loggers.charts.count,
            "agent": agent_state,
            "trained": description,
            "rng": torch.get_rng_state(),
            "settings": self.plan.settings,
            "tasks": self.tasks,
        }
        checkpoint.save(self.folder / name, content)
