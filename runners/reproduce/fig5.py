"""Fig. 5: running time against accuracy of the meta-learners on miniImageNet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runners.reproduce import table1
from runners.reproduce.machinery.claims import Claim, Decide, Decision, MissingRuns, columns_of, decide_each
from runners.reproduce.machinery.drawing import legend, points
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.summary import Summaries, distinct, mean
from runners.reproduce.shared import COLOURS, IMAGE_SCALES, image_cell, order_claims

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = ("FO-MAML", "MAML", "Meta-learner LSTM", "Meta-learner LSTM (enhanced)", "First-order TURTLE", "TURTLE")
ORDERS = (("FO-MAML", "MAML"), ("First-order TURTLE", "TURTLE"), ("Meta-learner LSTM", "Meta-learner LSTM (enhanced)"))


def _faster(pairs: Iterable[tuple[str, str]], share: float = 1.0) -> Decide:
    """Whether the first of every pair needs less than `share` times the second's time, in every setting."""
    pairs = list(pairs)

    def decide(cells: Summaries) -> Decision:
        devices = distinct(cells, "device")
        if len(devices) > 1:
            return None, f"the runs are from several devices: {', '.join(devices)}"

        def hours(row: str, column: str) -> float:
            value = mean(cells[row, column].hours)
            if value is None:
                raise MissingRuns(f"no run of {row}, {column}, with its time recorded")
            return value

        def one(column: str) -> Decision:
            timed = [(a, hours(a, column), b, hours(b, column)) for a, b in pairs]
            holds = all(x < share * y for _, x, _, y in timed)
            return holds, ", ".join(f"{a} {x:.3g} h and {b} {y:.3g} h" for a, x, b, y in timed)

        return decide_each(columns_of(cells), one)

    return decide


def _draw(figure: Figure, axes: Sequence[Axes], cells: Summaries) -> None:
    """Accuracy over time, in hours or in seconds."""
    times = [hours for summary in cells.values() if (hours := mean(summary.hours)) is not None]
    unit, per_hour = ("hours", 1) if max(times, default=1) > 0.2 else ("seconds", 3600)
    for axis, column in zip(axes, columns_of(cells), strict=True):
        for (row, of), summary in cells.items():
            hours = mean(summary.hours)
            if of == column and summary.paper_statistic is not None and hours is not None:
                points(axis, [hours * per_hour], [summary.paper_statistic], row, COLOURS[row])
        axis.set(title=column, xlabel=f"{unit} a run", ylabel="accuracy")
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
    legend(figure, axes)


FIG5 = Experiment(
    name="fig5",
    title="Fig. 5: running time and accuracy on miniImageNet",
    cells=[image_cell(row, "mini", shots, table1.PAPER[row][i]) for i, shots in enumerate((1, 5)) for row in ROWS],
    source="accuracy: the paper, Table 1; its times are a picture without numbers",
    scales=IMAGE_SCALES,
    data=("mini",),
    timed=True,
    claims=(
        *order_claims(),
        Claim("first-order algorithms are faster than their second-order variants", _faster(ORDERS)),
        Claim("TURTLE is not much slower than MAML (at most a quarter)", _faster([("TURTLE", "MAML")], 1.25)),
        Claim("TURTLE is faster than the enhanced LSTM", _faster([("TURTLE", "Meta-learner LSTM (enhanced)")])),
    ),
    draw=_draw,
)
