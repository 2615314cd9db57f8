"""Experiment: a figure or table of the paper with everything that is specific to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewshot_env.datasets import DATASETS, how_to_prepare
from fewshot_env.errors import FewShotError
from fewshot_env.store import ImageStore, data_dir, is_prepared
from runners.reproduce.machinery.claims import Claim
from runners.reproduce.machinery.grid import Cell, Scale, Scored
from runners.reproduce.machinery.summary import Summaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Draw = Callable[[Figure, Sequence[Axes], Summaries], None]


@dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper.

    Args:
        name: What `fsl reproduce` calls it.
        title: The heading of its page.
        cells: Its grid, with the published values.
        source: Where the published values come from.
        scales: The scales at which it can be run, by name ("full" and "quick").
        claims: What the paper says of it.
        draw: Draws a figure's cells, given the figure and one axis per column; None: a table.
        scored: What a run's score is of.
        data: The prepared data sets that it needs.
        timed: Whether its page shows the hours of a run.
    """

    name: str
    title: str
    cells: Sequence[Cell]
    source: str
    scales: Mapping[str, Scale]
    claims: Sequence[Claim] = ()
    draw: Draw | None = None
    scored: Scored = "test"
    data: tuple[str, ...] = ()
    timed: bool = False

    @property
    def metric(self) -> str:
        """What its scores are."""
        return self.cells[0].metric

    @property
    def columns(self) -> list[str]:
        """The settings, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def holdings(self, folder: str | None) -> list[str]:
        """The contents of its prepared data sets, and the official numbers where those differ; a line each."""
        return [f"{name}: {ImageStore.open(data_dir(folder) / name).holdings()}" for name in self.data]


def with_data(experiments: Sequence[Experiment], folder: str | None) -> tuple[list[Experiment], list[str]]:
    """The experiments whose data are prepared in the folder, and a line for each other one.

    Raises FewShotError, which says what is missing and how to get it, where none is left.
    """
    root = data_dir(folder)
    kept, left_out = [], []
    for experiment in experiments:
        missing = [name for name in experiment.data if not is_prepared(root / name)]
        if missing:
            left_out.append(
                f"{experiment.name} needs {' and '.join(missing)}, not prepared in {root}: run "
                + " and ".join(how_to_prepare(DATASETS[name], root) for name in missing)
            )
        else:
            kept.append(experiment)
    if not kept:
        raise FewShotError("; ".join(left_out))
    return kept, left_out
