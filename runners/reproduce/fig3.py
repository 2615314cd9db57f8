"""Fig. 3: validation errors of MAML and TURTLE on 5-shot sine regression, by order, number of updates T and depth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median, stdev
from typing import TYPE_CHECKING, Any

from runners.reproduce.machinery.claims import (
    Claim,
    Decision,
    MissingRuns,
    columns_of,
    decide_each,
    in_some,
    is_close,
    is_lower,
    median_of,
)
from runners.reproduce.machinery.drawing import legend, points
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Cell
from runners.reproduce.machinery.statistics import Estimate, Reference, median_over_runs
from runners.reproduce.machinery.summary import Summaries
from runners.reproduce.shared import AGENTS, COLOURS, SINE_SCALES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = (1, 5, 10)
SHALLOW, DEEP = (1, 2, 3, 4), (5, 6)
"""Numbers of hidden layers."""

GRADIENT_ONLY = {"agent.history": "none", "agent.time_input": False, "agent.learned_rates": False}
"""TURTLE's only input is the gradient, and alpha is fixed to ones."""


def _turtle(agent: str, layers: int) -> str:
    """The name of TURTLE's row."""
    return f"{agent}, {layers} hidden"


def _column(steps: int) -> str:
    return f"T = {steps}"


PRINTED = {
    ("FO-MAML", 1): (0.671, 0.775, 0.702, 0.683, 0.709),
    ("FO-MAML", 5): (0.533, 0.517, 0.550, 0.508, 0.496),
    (_turtle("TURTLE", 5), 1): (0.577, 0.579, 0.615, 0.610, 0.600),
    (_turtle("TURTLE", 6), 5): (0.362, 0.364, 0.359, 0.378, 0.372),
}
"""Best validation errors of 5 of 30 runs, printed in a notebook of the published repository (commit 100b9bb)."""


def _cells() -> list[Cell]:
    def cell(row: str, steps: int, settings: dict[str, Any]) -> Cell:
        values = PRINTED.get((row, steps))
        reference = None if values is None else Reference(median_over_runs(values), 0.0005)
        fixed = {"env": "sine", "agent.inner_steps": steps}
        return Cell(row, _column(steps), fixed | settings, reference=reference)

    cells = []
    for steps in STEPS:
        cells += [cell(row, steps, {"agent": AGENTS[row]}) for row in ("FO-MAML", "MAML")]
        for agent in ("First-order TURTLE", "TURTLE"):
            for layers in SHALLOW + DEEP:
                settings = {"agent": AGENTS[agent], **GRADIENT_ONLY, "agent.hidden_layers": layers}
                cells.append(cell(_turtle(agent, layers), steps, settings))
    return cells


def _best(cells: Summaries, agent: str, layers: Iterable[int], column: str) -> tuple[int, Estimate]:
    """The number of hidden layers with the lowest error, and that error."""
    errors = {n: median_of(cells, _turtle(agent, n), column) for n in layers}
    n = min(errors, key=lambda n: errors[n].value)
    return n, errors[n]


def _second_order_turtle(cells: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = (_best(cells, a, SHALLOW + DEEP, column)[1] for a in ("First-order TURTLE", "TURTLE"))
        return is_lower(second, first), f"best first-order {first}, best second-order {second}"

    return decide_each(map(_column, STEPS), decide)


CLOSE = 0.1
"""Two errors are close where they differ by at most this share of the larger."""


def _maml_orders(cells: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = median_of(cells, "FO-MAML", column), median_of(cells, "MAML", column)
        return is_close(first, second, CLOSE * max(first.value, second.value)), f"FO {first}, SO {second}"

    return decide_each(map(_column, STEPS), decide)


def _stability(cells: Summaries) -> Decision:
    one, five, ten = (median(_spread(cells, _turtle("TURTLE", n), t) for n in SHALLOW + DEEP) for t in STEPS)
    evidence = ", ".join(f"{_column(t)}: {spread:.3f}" for t, spread in zip(STEPS, (one, five, ten), strict=True))
    return None if math.isinf(five) and one < five else one < five < ten, evidence


def _spread(cells: Summaries, row: str, steps: int) -> float:
    """The standard deviation of a cell's runs, infinite where a run is."""
    scores = cells[row, _column(steps)].scores
    if any(map(math.isinf, scores)):
        return math.inf
    if len(scores) < 2:
        raise MissingRuns(f"{'only one' if scores else 'no'} run of {row}, {_column(steps)}")
    return stdev(scores)


def _shallow_turtle(cells: Summaries) -> Decision:
    def decide(row: str) -> Decision:
        one, ten = median_of(cells, row, _column(1)), median_of(cells, row, _column(10))
        return is_lower(one, ten), f"T = 1 {one}, T = 10 {ten}"

    return decide_each([_turtle("TURTLE", n) for n in (1, 2)], decide, in_some)


def _depth(cells: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        (deep, low), (shallow, high) = (_best(cells, "TURTLE", layers, column) for layers in (DEEP, SHALLOW))
        return is_lower(low, high), f"{deep} layers {low}, {shallow} layers {high}"

    return decide_each(map(_column, STEPS), decide)


MAX_ERROR = 6.0
"""The axis ends here or below; predicting the support's mean everywhere has an error near 5."""


def _draw(figure: Figure, axes: Sequence[Axes], cells: Summaries) -> None:
    """Error over hidden layers; MAML, which has none, as a line with its interval as a band."""
    values = [summary.paper_statistic for summary in cells.values() if summary.paper_statistic is not None]
    shown = [v.value + (v.half or 0) for v in values if v.value <= MAX_ERROR]
    top = min(MAX_ERROR, 1.1 * max(shown, default=MAX_ERROR))
    for axis, column in zip(axes, columns_of(cells), strict=True):
        _panel(axis, column, cells, top)
    legend(figure, axes)


def _panel(axis: Axes, column: str, cells: Summaries, top: float) -> None:
    for agent in ("First-order TURTLE", "TURTLE"):
        shift = 0.06 if agent == "TURTLE" else -0.06
        values = [cells[_turtle(agent, n), column].paper_statistic or Estimate(math.nan, None, 0) for n in range(1, 7)]
        points(axis, [n + shift for n in range(1, 7)], values, agent, COLOURS[agent], line="-")
        for n, value in enumerate(values, 1):
            if value.value > top:
                height = top * (1.06 if agent == "TURTLE" else 1.01)  # above the axis, one above the other
                axis.text(n - 0.2, height, f"↑ {value.value:.3g}", color=COLOURS[agent], fontsize=8)
    for row in ("FO-MAML", "MAML"):
        level = cells[row, column].paper_statistic
        if level is not None:
            half = level.half or 0
            axis.axhline(level.value, color=COLOURS[row], ls="--", label=row)
            axis.axhspan(level.value - half, level.value + half, color=COLOURS[row], alpha=0.12)
    axis.set_title(column, pad=22)
    axis.set(xlabel="hidden layers", ylabel="validation MSE", xticks=range(1, 7), xlim=(0.5, 6.5))
    axis.set_ylim(0, top)
    axis.label_outer()


FIG3 = Experiment(
    name="fig3",
    title="Fig. 3: order, number of updates T and hidden layers of TURTLE on 5-shot sine regression",
    cells=_cells(),
    source="5 of 30 runs that a notebook of the published repository prints (commit 100b9bb), TURTLE's with one task "
    "a meta-batch, where the paper and these runs have two; the paper's Fig. 3 is a picture without numbers",
    scales=SINE_SCALES,
    scored="validation",
    claims=(
        Claim("first-order TURTLE fails to reach second-order TURTLE", _second_order_turtle),
        Claim(f"first- and second-order MAML are close: they differ by at most {CLOSE:.0%}", _maml_orders),
        Claim(
            "TURTLE's stability falls as T grows: the sd over its runs (median over depths) becomes larger", _stability
        ),
        Claim("with few hidden layers (1 or 2), TURTLE becomes worse as T grows from 1 to 10", _shallow_turtle),
        Claim("5 or 6 hidden layers do best", _depth),
    ),
    draw=_draw,
)
