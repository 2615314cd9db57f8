"""Pictures: the figures of the paper, drawn from our runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from runners.reporting.picture import save
from runners.reproduce.experiments import turtle_row
from runners.reproduce.grid import Experiment
from runners.reproduce.statistics import Estimate
from runners.reproduce.summary import Summaries, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "TURTLE": "#1b6ca8",
    "First-order TURTLE": "#e07b39",
    "MAML": "#3a7d44",
    "FO-MAML": "#9a9a2f",
    "Meta-learner LSTM": "#8e4585",
    "Meta-learner LSTM (enhanced)": "#c23b5a",
}
"""One colour an agent, the same in every figure."""


CEILING = 6.0
"""Fig. 3's axis ends here or below; the mean of the support as every answer has an error near 5."""


def _ceiling(found: Summaries) -> float:
    """Where the axis ends: above all that lies below CEILING."""
    values = [summary.paper for summary in found.values() if summary.paper is not None]
    return min(CEILING, 1.1 * max((v.value + (v.half or 0) for v in values if v.value <= CEILING), default=CEILING))


def draw(experiment: Experiment, found: Summaries, note: str, files: Sequence[Path]) -> None:
    """Write an experiment's figure, with a note above it, to files whose suffixes name their formats."""
    from matplotlib.figure import Figure

    panels = experiment.columns
    figure = Figure(figsize=(max(5.0, 3.4 * len(panels)), 4.2), dpi=150, layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(panels), sharey=experiment.name == "fig3", squeeze=False)[0])
    for axis, column in zip(axes, panels, strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        DRAWINGS[experiment.name](axis, column, found)
    if experiment.name != "fig4":  # whose agents stand on the axis
        _legend(figure, axes)
    width = int(13 * figure.get_figwidth())
    figure.suptitle("\n".join([*wrap(experiment.title, width), *wrap(note, width)]), fontsize=9)
    for file in files:
        save(figure, file)


def _fig3(axis: Axes, column: str, found: Summaries) -> None:
    """Error over hidden layers; MAML, which has none, as a level with its interval as a band."""
    ceiling = _ceiling(found)
    for row in ("First-order TURTLE", "TURTLE"):
        shift = 0.06 if row == "TURTLE" else -0.06
        values = [found[turtle_row(row, n), column].paper or Estimate(math.nan, None, 0) for n in range(1, 7)]
        _bars(axis, [n + shift for n in range(1, 7)], values, row, line="-")
        for n, value in enumerate(values, 1):
            if value.value > ceiling:
                height = ceiling * (1.06 if row == "TURTLE" else 1.01)  # above the axis, one above the other
                axis.text(n - 0.2, height, f"↑ {value.value:.3g}", color=COLOURS[row], fontsize=8)
    for row in ("FO-MAML", "MAML"):
        level = found[row, column].paper
        if level is not None:
            axis.axhline(level.value, color=COLOURS[row], ls="--", label=row)
            axis.axhspan(
                level.value - (level.half or 0), level.value + (level.half or 0), color=COLOURS[row], alpha=0.12
            )
    axis.set_title(column, pad=22)
    axis.set(xlabel="hidden layers", ylabel="validation MSE", xticks=range(1, 7), xlim=(0.5, 6.5))
    axis.set_ylim(0, ceiling)
    axis.label_outer()


def _fig4(axis: Axes, column: str, found: Summaries) -> None:
    """The median with its interval, and every run as a dot."""
    rows = [row for row, _ in found]
    for x, row in enumerate(rows):
        summary = found[row, column]
        if summary.paper is not None:
            n = len(summary.scores)
            spread = [x - 0.12 + 0.24 * i / max(n - 1, 1) for i in range(n)]
            axis.plot(spread, summary.scores, ".", color=COLOURS[row], alpha=0.35, ms=5)
            _bars(axis, [x], [summary.paper], row)
    counts = [len(found[row, column].scores) for row in rows]
    words = [f"{count} run{'s' * (count != 1)}" for count in counts]
    names = [f"{row.replace('Meta-learner ', '')}\n{word}" for row, word in zip(rows, words, strict=True)]
    axis.set(ylabel="test MSE", xticks=range(len(rows)), xticklabels=names, xlim=(-0.6, len(rows) - 0.4))
    axis.set(xlabel="small dots: runs; large dots with bars: median ± 95 %")
    axis.set_ylim(0, 1.05 * axis.get_ylim()[1])


def _fig5(axis: Axes, column: str, found: Summaries) -> None:
    """Accuracy over time, in hours or in seconds."""
    times = [hours for summary in found.values() if (hours := mean(summary.hours)) is not None]
    unit, size = ("hours", 1) if max(times, default=1) > 0.2 else ("seconds", 3600)
    for (row, of), summary in found.items():
        hours = mean(summary.hours)
        if of == column and summary.paper is not None and hours is not None:
            _bars(axis, [hours * size], [summary.paper], row)
    axis.set(title=column, xlabel=f"{unit} a run", ylabel="accuracy")
    axis.set_xlim(left=0)
    axis.locator_params(axis="x", nbins=5)


def _bars(axis: Axes, x: Sequence[float], values: Sequence[Estimate], label: str, line: str = "none") -> None:
    heights, halves = [v.value for v in values], [v.half or 0.0 for v in values]
    axis.errorbar(x, heights, yerr=halves, fmt="o", ls=line, color=COLOURS[label], capsize=3, ms=5, label=label)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)), fontsize=8
        )


DRAWINGS = {"fig3": _fig3, "fig4": _fig4, "fig5": _fig5}
