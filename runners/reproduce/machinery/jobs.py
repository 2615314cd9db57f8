"""Jobs: the runs that the cells lack. A job can be killed and started again: finished runs are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners.config.plan import make_plan, side_by_side
from runners.reproduce.machinery.earlier import EarlierReports
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Cell, Scale
from runners.reproduce.machinery.runs import Runs
from runners.storage.lock import InUse
from runners.training import launcher


@dataclass(frozen=True)
class Job:
    """Runs of one cell to finish, and then to test on the cell's target: one element of an array on a cluster."""

    name: str
    folders: tuple[Path, ...]
    target: str | None
    data_dir: str | None

    def __call__(self) -> None:
        """Continue the runs from their last checkpoints; do nothing where another process is training them."""
        from runners.evaluation.retest import retest

        unfinished = [folder for folder in self.folders if not (folder / "result.json").exists()]
        try:
            if unfinished:
                launcher.continue_runs(unfinished)
        except InUse:
            print(f"{self.name} is already running in another process", flush=True)
            return
        for folder in self.folders if self.target else ():
            retest(folder, self.target, {} if self.data_dir is None else {"env.data_dir": self.data_dir})

    def checkpoint(self) -> Any:
        """What submitit queues again before a time limit: the same job, which continues from the last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def missing_jobs(
    experiments: Sequence[Experiment], scale: str, runs: Runs, earlier: EarlierReports, seeds: int | None = None
) -> list[Job]:
    """The jobs that are left to do, each run in one job only; makes the folders of new runs.

    Runs of a small agent are one job, trained together; others are a job each.

    Args:
        experiments: The figures and tables to complete.
        scale: The name of their scale.
        runs: The runs that the folder holds.
        earlier: Runs that need not be run again.
        seeds: At most so many of each cell; None: all of the scale's.
    """
    for experiment in experiments:  # before anything is written
        for cell in experiment.cells:
            runs.check_settings(cell, experiment.scales[scale])
    remaining: dict[str, _Remaining] = {}
    for experiment in experiments:
        first = experiment.scales[scale].first(seeds)
        for cell in experiment.cells:
            done = earlier.of(experiment, cell, scale)
            same = remaining.setdefault(runs.cell_identity(cell, first), _Remaining(cell, first))
            for folder in runs.create(cell, first, [seed for seed in range(first.seeds) if seed not in done]):
                if runs.result(cell, folder) is None:
                    same.targets[folder] = cell.target or same.targets.get(folder)
    return [job for same in remaining.values() for job in same.jobs(runs.data_dir)]


@dataclass
class _Remaining:
    """The unfinished runs with the same settings: their folders, each with the target to test it on."""

    cell: Cell
    scale: Scale
    targets: dict[Path, str | None] = field(default_factory=dict)

    def jobs(self, data_dir: str | None) -> list[Job]:
        """The runs as jobs."""
        if self.targets and side_by_side(make_plan(self.cell.run_settings(self.scale, 0, data_dir))):
            target = next((target for target in self.targets.values() if target), None)
            return [Job(self.cell.name, tuple(self.targets), target, data_dir)]
        return [Job(f"{self.cell.name}, {f.name}", (f,), target, data_dir) for f, target in self.targets.items()]
