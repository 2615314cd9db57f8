"""Claims: what the paper says of its results (Sects. 5.1 to 5.5), to be decided by ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median, stdev

from runners.reproduce.checks import (
    Decision,
    Missing,
    Verdict,
    close,
    columns_of,
    decided,
    each,
    everywhere,
    lower,
    of,
    somewhere,
)
from runners.reproduce.experiments import TIMED, turtle_row
from runners.reproduce.statistics import Estimate
from runners.reproduce.summary import Summaries, each_once, mean

CLOSE = 0.1
"""Two errors are close where they differ by no more than this share of the larger."""
CLOSE_ACCURACY = 0.02
"""Two accuracies are close where they differ by no more than this."""

Decide = Callable[[Summaries], Decision]


def check(experiment: str, found: Summaries) -> list[Verdict]:
    """The verdicts on the paper's claims about an experiment."""
    return [decided(claim, decide, found) for claim, decide in CLAIMS[experiment]]


STEPS = ("T = 1", "T = 5", "T = 10")
SHALLOW, DEEP = (1, 2, 3, 4), (5, 6)


def _best(found: Summaries, agent: str, layers: Iterable[int], column: str) -> tuple[int, Estimate]:
    """The number of hidden layers with the lowest error, and that error."""
    all_of = {n: of(found, turtle_row(agent, n), column) for n in layers}
    n = min(all_of, key=lambda n: all_of[n].value)
    return n, all_of[n]


def _second_order_turtle(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = (_best(found, a, SHALLOW + DEEP, column)[1] for a in ("First-order TURTLE", "TURTLE"))
        return lower(second, first), f"best first-order {first}, best second-order {second}"

    return each(STEPS, decide)


def _maml_orders_on_sine(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = of(found, "FO-MAML", column), of(found, "MAML", column)
        return close(first, second, CLOSE * max(first.value, second.value)), f"FO {first}, SO {second}"

    return each(STEPS, decide)


def _stability(found: Summaries) -> Decision:
    one, five, ten = (median(_spread(found, turtle_row("TURTLE", n), t) for n in SHALLOW + DEEP) for t in STEPS)
    words = ", ".join(f"{t}: {spread:.3f}" for t, spread in zip(STEPS, (one, five, ten), strict=True))
    return None if math.isinf(five) and one < five else one < five < ten, words


def _spread(found: Summaries, row: str, column: str) -> float:
    """The standard deviation of a cell's runs, infinite where a run is."""
    scores = found[row, column].scores
    if any(map(math.isinf, scores)):
        return math.inf
    if len(scores) < 2:
        raise Missing(f"{row}, {column}, but the first" if scores else f"{row}, {column}")
    return stdev(scores)


def _shallow_turtle(found: Summaries) -> Decision:
    def decide(row: str) -> Decision:
        one, ten = of(found, row, "T = 1"), of(found, row, "T = 10")
        return lower(one, ten), f"T = 1 {one}, T = 10 {ten}"

    return each([turtle_row("TURTLE", n) for n in (1, 2)], decide, somewhere)


def _depth(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        (deep, low), (shallow, high) = (_best(found, "TURTLE", layers, column) for layers in (DEEP, SHALLOW))
        return lower(low, high), f"{deep} layers {low}, {shallow} layers {high}"

    return each(STEPS, decide)


def _turtle_beats(other: str) -> Decide:
    def decide(found: Summaries) -> Decision:
        ours, theirs = of(found, "TURTLE", "sine"), of(found, other, "sine")
        return lower(ours, theirs), f"TURTLE {ours}, {other} {theirs}"

    return decide


def _improves(better: str, worse: str, on: str = "") -> Decide:
    """Whether an agent's accuracy is above another's in some setting, and below it in none."""

    def all_settings(found: Summaries) -> Decision:
        def decide(column: str) -> Decision:
            a, b = of(found, better, column), of(found, worse, column)
            return lower(b, a), f"{a} against {b}"

        return each([column for column in columns_of(found) if column.startswith(on)], decide, somewhere)

    return all_settings


def _maml_orders_on_images(on: str) -> Decide:
    def all_settings(found: Summaries) -> Decision:
        def decide(column: str) -> Decision:
            first, second = of(found, "FO-MAML", column), of(found, "MAML", column)
            return close(first, second, CLOSE_ACCURACY), f"FO {first}, SO {second}"

        return each([column for column in columns_of(found) if column.startswith(on)], decide)

    return all_settings


def _five_shots(found: Summaries) -> Decision:
    one_shot = [(row, column) for row, column in found if column.endswith("1-shot")]
    verdicts = {
        f"{row} on {column.removesuffix(' 1-shot')}": lower(
            of(found, row, column), of(found, row, column.replace("1-shot", "5-shot"))
        )
        for row, column in one_shot
    }
    words = f"{sum(holds is True for holds in verdicts.values())} of {len(verdicts)}"
    for holds, said in ((False, "not"), (None, "undecided")):
        some = [name for name, found_to in verdicts.items() if found_to is holds]
        words += f"; {said}: {', '.join(some)}" if some else ""
    return everywhere(verdicts.values()), words


def _best_in_half(found: Summaries) -> Decision:
    columns, ours = columns_of(found), ("TURTLE", "Meta-learner LSTM (enhanced)")
    others = [row for row in dict.fromkeys(row for row, _ in found) if row not in ours]

    def best(rows: Iterable[str], column: str) -> float:
        return max(of(found, row, column).value for row in rows)

    won = [column for column in columns if best(ours, column) > best(others, column)]
    return 2 * len(won) >= len(columns), f"{len(won)} of {len(columns)} settings: {', '.join(won) or 'none'}"


def _faster(pairs: Iterable[tuple[str, str]], share: float = 1.0) -> Decide:
    """Whether the first of every pair needs less than `share` times the second's time, in every setting."""
    pairs = list(pairs)

    def all_settings(found: Summaries) -> Decision:
        devices = each_once(found, "device")
        if len(devices) > 1:
            return None, f"the runs are of several devices: {', '.join(devices)}"

        def hours(row: str, column: str) -> float:
            value = mean(found[row, column].hours)
            if value is None:
                raise Missing(f"{row}, {column}, with its time recorded")
            return value

        def decide(column: str) -> Decision:
            timed = [(a, hours(a, column), b, hours(b, column)) for a, b in pairs]
            holds = all(x < share * y for _, x, _, y in timed)
            return holds, ", ".join(f"{a} {x:.3g} h and {b} {y:.3g} h" for a, x, b, y in timed)

        return each(columns_of(found), decide)

    return all_settings


ORDERS = (("FO-MAML", "MAML"), ("First-order TURTLE", "TURTLE"), ("Meta-learner LSTM", "Meta-learner LSTM (enhanced)"))


def _orders(on: str = "") -> tuple[tuple[str, Decide], ...]:
    """What is said of first and second order, wherever there are images."""
    where = f" on {on}" if on else ""
    return (
        (f"second-order gradients improve TURTLE{where}", _improves("TURTLE", "First-order TURTLE", on)),
        (
            f"raw gradients and second order improve the LSTM{where}",
            _improves("Meta-learner LSTM (enhanced)", "Meta-learner LSTM", on),
        ),
        (f"first- and second-order MAML are close{where}: by {CLOSE_ACCURACY} or less", _maml_orders_on_images(on)),
    )


CLAIMS: dict[str, tuple[tuple[str, Decide], ...]] = {
    "fig3": (
        ("first-order TURTLE fails to reach second-order TURTLE", _second_order_turtle),
        (f"first- and second-order MAML are close: they differ by no more than {CLOSE:.0%}", _maml_orders_on_sine),
        ("TURTLE's stability falls as T grows: the sd of its runs, median over depths, becomes larger", _stability),
        ("with few hidden layers (1 or 2), TURTLE becomes worse as T grows from 1 to 10", _shallow_turtle),
        ("5 or 6 hidden layers do best", _depth),
    ),
    "fig4": (
        ("TURTLE beats MAML", _turtle_beats("MAML")),
        ("TURTLE beats the meta-learner LSTM", _turtle_beats("Meta-learner LSTM")),
    ),
    "table1": (
        *_orders("miniImageNet"),
        ("every method is better with five shots than with one", _five_shots),
        ("TURTLE or the enhanced LSTM has the best median in half of the settings", _best_in_half),
    ),
    "table2": _orders(),
    "fig5": (
        *_orders(),
        ("first-order algorithms are faster than their second-order variants", _faster(ORDERS)),
        ("TURTLE is not much slower than MAML (at most a quarter)", _faster([("TURTLE", "MAML")], 1.25)),
        ("TURTLE is faster than the enhanced LSTM", _faster([("TURTLE", TIMED[3])])),
    ),
}
