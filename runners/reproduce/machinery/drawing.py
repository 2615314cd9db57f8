"""Drawing: the frame of a figure of the paper, and how its points, intervals and legend are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from runners.reporting.figure_files import save_figure
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.statistics import Estimate
from runners.reproduce.machinery.summary import Summaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(experiment: Experiment, cells: Summaries, note: str, files: Sequence[Path]) -> None:
    """Write an experiment's figure, with a note above it, to files whose suffixes name their formats."""
    from matplotlib.figure import Figure

    assert experiment.draw is not None
    columns = experiment.columns
    figure = Figure(figsize=(max(5.0, 3.4 * len(columns)), 4.2), dpi=150, layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(columns), squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    experiment.draw(figure, axes, cells)
    width = int(13 * figure.get_figwidth())
    figure.suptitle("\n".join([*wrap(experiment.title, width), *wrap(note, width)]), fontsize=9)
    for file in files:
        save_figure(figure, file)


def points(
    axis: Axes, x: Sequence[float], values: Sequence[Estimate], label: str, color: str, line: str = "none"
) -> None:
    """Draw estimates as dots with their intervals as bars."""
    heights, halves = [v.value for v in values], [v.half or 0.0 for v in values]
    axis.errorbar(x, heights, yerr=halves, fmt="o", ls=line, color=color, capsize=3, ms=5, label=label)


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend for all axes, below them."""
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)), fontsize=8
        )
