"""Jobs: what the cells are missing. A job can be killed and done again: finished runs are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners.config.plan import make_plan, side_by_side
from runners.reproduce.earlier import Earlier
from runners.reproduce.grid import Cell, Experiment, Scale
from runners.reproduce.runs import Runs
from runners.storage.lock import InUse
from runners.training import launcher as carry_out


@dataclass(frozen=True)
class Job:
    """Runs of one cell to carry on and then to test on the cell's target: one element of an array on a cluster."""

    name: str
    folders: tuple[Path, ...]
    target: str | None
    data_dir: str | None

    def __call__(self) -> None:
        """Carry the job out from wherever it stands; do nothing where another process has it in hand."""
        from runners.evaluation.retest import retest

        unfinished = [folder for folder in self.folders if not (folder / "result.json").exists()]
        try:
            if unfinished:
                carry_out.carry_on(unfinished)
        except InUse:
            print(f"{self.name} is being carried out by another process", flush=True)
            return
        for folder in self.folders if self.target else ():
            retest(folder, self.target, {} if self.data_dir is None else {"env.data_dir": self.data_dir})

    def checkpoint(self) -> Any:
        """What submitit queues anew before a time limit: the same job, which goes on from the last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def missing(
    experiments: Sequence[Experiment], scale: str, runs: Runs, earlier: Earlier, seeds: int | None = None
) -> list[Job]:
    """The jobs that are left to do, each run in one job only; makes the folders of new runs.

    earlier: runs that are not needed again. seeds: no more than so many of each cell (default: all of the scale's).
    Runs of a small agent are one job, side by side; others are a job each.
    """
    for experiment in experiments:  # before anything is written
        for cell in experiment.cells:
            runs.check(cell, experiment.scales[scale])
    left: dict[str, _Left] = {}
    for experiment in experiments:
        first = experiment.scales[scale].first(seeds)
        for cell in experiment.cells:
            done = earlier.of(experiment, cell, scale)
            alike = left.setdefault(runs.cell_identity(cell, first), _Left(cell, first))
            for folder in runs.create(cell, first, [seed for seed in range(first.seeds) if seed not in done]):
                if runs.result(cell, folder) is None:
                    alike.targets[folder] = cell.target or alike.targets.get(folder)
    return [job for alike in left.values() for job in alike.jobs(runs.data_dir)]


@dataclass
class _Left:
    """What is left of the runs that are trained alike: their folders, each with the target to test it on."""

    cell: Cell
    scale: Scale
    targets: dict[Path, str | None] = field(default_factory=dict)

    def jobs(self, data_dir: str | None) -> list[Job]:
        """As jobs."""
        if self.targets and side_by_side(make_plan(self.cell.plan_settings(self.scale, 0, data_dir))):
            target = next((target for target in self.targets.values() if target), None)
            return [Job(self.cell.name, tuple(self.targets), target, data_dir)]
        return [Job(f"{self.cell.name}, {f.name}", (f,), target, data_dir) for f, target in self.targets.items()]
