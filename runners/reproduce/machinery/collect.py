"""Collect: the finished runs of every cell, from the folder and from earlier reports."""

from __future__ import annotations

from typing import Any

from fewshot_env.errors import FewShotError
from fewshot_env.settings import fit
from runners.reproduce.machinery.earlier import EarlierReports
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Cell, Scale
from runners.reproduce.machinery.runs import Runs, best_validation
from runners.reproduce.machinery.summary import CountedRun, Summaries, Summary


def collect(experiment: Experiment, scale: Scale, runs: Runs, earlier: EarlierReports) -> Summaries:
    """Summarize every cell of an experiment, finished or not.

    Runs in the folder come first. Raises FewShotError where the runs of a cell were tested on different tasks.
    """
    return {(cell.row, cell.column): _summary(experiment, cell, scale, runs, earlier) for cell in experiment.cells}


def _summary(experiment: Experiment, cell: Cell, scale: Scale, runs: Runs, earlier: EarlierReports) -> Summary:
    here: dict[int, CountedRun] = {}
    for seed, folder in runs.of(cell, scale).items():
        result = runs.result(cell, folder)
        if result is not None:
            scored = result if experiment.scored == "test" else best_validation(folder, result)
            here[seed] = _counted(seed, result, scored, str(folder.relative_to(runs.out)))
    elsewhere = {seed: run for seed, run in earlier.of(experiment, cell, scale.name).items() if seed < scale.seeds}
    finished = [run for _, run in sorted((elsewhere | here).items())]
    for run in finished:
        if run.episodes != finished[0].episodes:
            raise FewShotError(
                f"{cell.name}: its runs with seeds {finished[0].seed} and {run.seed} were tested on different tasks, "
                "for example of different copies of the data; keep those of one"
            )
    resolved = runs.resolved(cell.run_settings(scale, 0, runs.data_dir))
    return Summary(cell, experiment.scored, resolved, scale.seeds, finished)


def _counted(seed: int, result: dict[str, Any], scored: dict[str, Any], folder: str) -> CountedRun:
    """A run as the report counts it; scored: its test, or a validation in the same form."""
    timed = {"seconds", "side_by_side", "device"} <= result.keys()
    numbers = {
        "seed": seed,
        "score": scored["mean"],
        "median": scored["median"],
        "diverged": int(scored["diverged"]),
        "hours": sum(result["seconds"].values()) / 3600 / result["side_by_side"] if timed else None,
        "device": result["device"] if timed else "",
        "versions": ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
        "episodes": result["episode_hash"],
        "folder": folder,
    }
    try:
        return fit(CountedRun, numbers)
    except ValueError as error:
        raise FewShotError(f"the log of {folder} is not what fsl wrote ({error}); restore it") from error
