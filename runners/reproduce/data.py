"""Data: which experiments can be carried out with the data sets that are prepared here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_env.datasets import DATASETS
from fewshot_env.errors import FewShotError
from fewshot_env.store import ImageStore, data_dir, is_prepared
from runners.reproduce.grid import Experiment


def with_data(experiments: Sequence[Experiment], folder: str | None) -> tuple[list[Experiment], list[str]]:
    """The experiments whose data are prepared, and a line for each other one.

    Raises FewShotError, which names what is missing and how to get it, where none is left.
    """
    root = Path(folder) if folder else data_dir()
    kept, left_out = [], []
    for experiment in experiments:
        lacks = [name for name in experiment.data if not is_prepared(root / name)]
        if lacks:
            left_out.append(f"{experiment.name} needs {' and '.join(lacks)}, not prepared in {root}: {_how(lacks)}")
        else:
            kept.append(experiment)
    if not kept:
        raise FewShotError("; ".join(left_out))
    return kept, left_out


def holdings(experiment: Experiment, folder: str | None) -> list[str]:
    """What the stores of an experiment's data hold, beside the official numbers where those differ; a line each."""
    root = Path(folder) if folder else data_dir()
    return [f"{name}: {ImageStore.open(root / name).holdings()}" for name in experiment.data]


def _how(names: Sequence[str]) -> str:
    commands = (f"fsl data prepare {n} --source PATH{' (or --download)' if DATASETS[n].remotes else ''}" for n in names)
    return "run " + " and ".join(commands)
