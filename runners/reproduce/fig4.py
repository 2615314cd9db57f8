"""Fig. 4: test errors of MAML, the meta-learner LSTM and TURTLE on 5-shot sine regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runners.reproduce.machinery.claims import Claim, Decide, Decision, is_lower, median_of
from runners.reproduce.machinery.drawing import points
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Cell
from runners.reproduce.machinery.statistics import Reference, median_over_runs
from runners.reproduce.machinery.summary import Summaries
from runners.reproduce.shared import AGENTS, COLOURS, SINE_SCALES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RERUN = {"MAML": (0.714, 0.674), "TURTLE": (0.493, 0.502)}
"""The published implementation, run again with two of its seeds: mean test error."""


def _cell(row: str) -> Cell:
    reference = Reference(median_over_runs(RERUN[row]), 0.0005) if row in RERUN else None
    return Cell(row, "sine", {"env": "sine", "agent": AGENTS[row]}, reference=reference)


def _turtle_beats(other: str) -> Decide:
    def decide(cells: Summaries) -> Decision:
        ours, theirs = median_of(cells, "TURTLE", "sine"), median_of(cells, other, "sine")
        return is_lower(ours, theirs), f"TURTLE {ours}, {other} {theirs}"

    return decide


def _draw(figure: Figure, axes: Sequence[Axes], cells: Summaries) -> None:
    """The median with its interval, and every run as a dot."""
    (axis,), names = axes, []
    for x, ((row, _), summary) in enumerate(cells.items()):
        count = len(summary.scores)
        names.append(f"{row.replace('Meta-learner ', '')}\n{count} run{'s' * (count != 1)}")
        if summary.paper_statistic is not None:
            spread = [x - 0.12 + 0.24 * i / max(count - 1, 1) for i in range(count)]
            axis.plot(spread, summary.scores, ".", color=COLOURS[row], alpha=0.35, ms=5)
            points(axis, [x], [summary.paper_statistic], row, COLOURS[row])
    axis.set(ylabel="test MSE", xticks=range(len(names)), xticklabels=names, xlim=(-0.6, len(names) - 0.4))
    axis.set(xlabel="small dots: runs; large dots with bars: median ± 95 %")
    axis.set_ylim(0, 1.05 * axis.get_ylim()[1])


FIG4 = Experiment(
    name="fig4",
    title="Fig. 4: 5-shot sine regression",
    cells=[_cell(row) for row in ("MAML", "Meta-learner LSTM", "TURTLE")],
    source="the published implementation run again with 2 of its seeds; the paper's Fig. 4 is a picture without "
    "numbers",
    scales=SINE_SCALES,
    claims=(
        Claim("TURTLE beats MAML", _turtle_beats("MAML")),
        Claim("TURTLE beats the meta-learner LSTM", _turtle_beats("Meta-learner LSTM")),
    ),
    draw=_draw,
)
