"""Checks: what the paper says of its results, decided by ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

from runners.reproduce.experiments import TIMED, turtle_row
from runners.reproduce.statistics import Estimate, apart
from runners.reproduce.summary import Summaries, mean

CLOSE = 0.1
"""Two errors are close where they differ by less than this share of the larger, or their intervals meet."""
CLOSE_ACCURACY = 0.02
"""Two accuracies are close where they differ by no more than this, or their intervals meet."""


@dataclass(frozen=True)
class Verdict:
    """holds: None where runs are missing or intervals leave it open. evidence: the numbers, in words."""

    claim: str
    holds: bool | None
    evidence: str

    @property
    def words(self) -> str:
        """In words."""
        return {True: "holds", False: "does not hold", None: "undecided"}[self.holds]


def check(experiment: str, found: Summaries) -> list[Verdict]:
    """The verdicts on the paper's claims about an experiment."""
    return [_decided(claim, decide, found) for claim, decide in CLAIMS[experiment]]


Decision = tuple[bool | None, str]


class Missing(Exception):
    """A cell has no run."""


def _decided(claim: str, decide: Callable[[Summaries], Decision], found: Summaries) -> Verdict:
    try:
        return Verdict(claim, *decide(found))
    except Missing as gap:
        return Verdict(claim, None, f"no run of {gap}")


def _of(found: Summaries, row: str, column: str) -> Estimate:
    value = found[row, column].paper
    if value is None:
        raise Missing(f"{row}, {column}")
    return value


def _each(columns: Iterable[str], decide: Callable[[str], Decision]) -> Decision:
    """Whether something holds in every column; the columns whose runs are missing leave it open."""
    parts = []
    for column in columns:
        try:
            holds, words = decide(column)
        except Missing as gap:
            holds, words = None, f"no run of {gap}"
        parts.append((holds, f"{column}: {words}"))
    verdicts = [holds for holds, _ in parts]
    whole = None if None in verdicts and False not in verdicts else False not in verdicts
    return whole, "; ".join(words for _, words in parts)


def _lower(a: Estimate, b: Estimate) -> bool | None:
    """Whether a is below b; None where their intervals meet, or one has none."""
    return a.value < b.value if apart(a, b) else None


STEPS = ("T = 1", "T = 5", "T = 10")
LAYERS = range(1, 7)


def _best(found: Summaries, agent: str, column: str) -> tuple[int, Estimate]:
    """The number of hidden layers with the lowest error, and that error."""
    all_of = {n: _of(found, turtle_row(agent, n), column) for n in LAYERS}
    n = min(all_of, key=lambda n: all_of[n].value)
    return n, all_of[n]


def _second_order_turtle(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = _best(found, "First-order TURTLE", column)[1], _best(found, "TURTLE", column)[1]
        return _lower(second, first), f"best first-order {first}, best second-order {second}"

    return _each(STEPS, decide)


def _maml_orders_on_sine(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = _of(found, "FO-MAML", column), _of(found, "MAML", column)
        return _close(first, second), f"FO {first}, SO {second}"

    return _each(STEPS, decide)


def _close(a: Estimate, b: Estimate) -> bool:
    return apart(a, b) is False or abs(a.value - b.value) < CLOSE * max(a.value, b.value)


def _stability(found: Summaries) -> Decision:
    halves = []
    for t in STEPS:
        of_t = [_of(found, turtle_row("TURTLE", n), t).half for n in LAYERS]
        halves.append(fmean(h for h in of_t if h is not None) if any(h is not None for h in of_t) else None)
    words = "mean half-width of second-order TURTLE's intervals: " + ", ".join(
        f"{t}: {'none' if h is None else f'{h:.3f}'}" for t, h in zip(STEPS, halves, strict=True)
    )
    one, five, ten = halves
    return (None if one is None or five is None or ten is None else one < five < ten), words


def _depth(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        layers, error = _best(found, "TURTLE", column)
        return layers in (5, 6), f"{layers} ({error})"

    return _each(STEPS, decide)


def _turtle_beats(other: str) -> Callable[[Summaries], Decision]:
    def decide(found: Summaries) -> Decision:
        ours, theirs = _of(found, "TURTLE", "sine"), _of(found, other, "sine")
        return _lower(ours, theirs), f"TURTLE {ours}, {other} {theirs}"

    return decide


def _columns(found: Summaries) -> list[str]:
    return list(dict.fromkeys(column for _, column in found))


def _better_on_images(better: str, worse: str) -> Callable[[Summaries], Decision]:
    """Whether one agent's accuracy is above the other's in every setting."""

    def all_settings(found: Summaries) -> Decision:
        def decide(column: str) -> Decision:
            a, b = _of(found, better, column), _of(found, worse, column)
            return _lower(b, a), f"{a} against {b}"

        return _each(_columns(found), decide)

    return all_settings


def _maml_orders_on_images(found: Summaries) -> Decision:
    def decide(column: str) -> Decision:
        first, second = _of(found, "FO-MAML", column), _of(found, "MAML", column)
        close = apart(first, second) is False or abs(first.value - second.value) <= CLOSE_ACCURACY
        return close, f"FO {first}, SO {second}"

    return _each(_columns(found), decide)


def _best_in_half(found: Summaries) -> Decision:
    columns, ours = _columns(found), ("TURTLE", "Meta-learner LSTM (enhanced)")
    others = [row for row in dict.fromkeys(row for row, _ in found) if row not in ours]

    def best(rows: Iterable[str], column: str) -> float:
        return max(_of(found, row, column).value for row in rows)

    won = [column for column in columns if best(ours, column) > best(others, column)]
    return 2 * len(won) >= len(columns), f"{len(won)} of {len(columns)} settings: {', '.join(won) or 'none'}"


def _faster(pairs: Iterable[tuple[str, str]], share: float = 1.0) -> Callable[[Summaries], Decision]:
    """Whether the first of every pair needs less than `share` times the second's time, in every setting."""
    pairs = list(pairs)

    def all_settings(found: Summaries) -> Decision:
        def hours(row: str, column: str) -> float:
            value = mean(found[row, column].hours)
            if value is None:
                raise Missing(f"{row}, {column}, that holds its time")
            return value

        def decide(column: str) -> Decision:
            timed = [(a, hours(a, column), b, hours(b, column)) for a, b in pairs]
            holds = all(x < share * y for _, x, _, y in timed)
            return holds, ", ".join(f"{a} {x:.3g} h and {b} {y:.3g} h" for a, x, b, y in timed)

        return _each(_columns(found), decide)

    return all_settings


ORDERS = (("FO-MAML", "MAML"), ("First-order TURTLE", "TURTLE"), ("Meta-learner LSTM", "Meta-learner LSTM (enhanced)"))
ON_IMAGES = (
    ("second-order gradients improve TURTLE", _better_on_images("TURTLE", "First-order TURTLE")),
    (
        "raw gradients and second order improve the LSTM",
        _better_on_images("Meta-learner LSTM (enhanced)", "Meta-learner LSTM"),
    ),
    ("first- and second-order MAML are close", _maml_orders_on_images),
)
CLAIMS: dict[str, tuple[tuple[str, Callable[[Summaries], Decision]], ...]] = {
    "fig3": (
        ("first-order TURTLE fails to reach second-order TURTLE", _second_order_turtle),
        ("first- and second-order MAML are close", _maml_orders_on_sine),
        ("TURTLE's stability falls as T grows: its intervals become larger", _stability),
        ("5 or 6 hidden layers do best", _depth),
    ),
    "fig4": (
        ("TURTLE beats MAML", _turtle_beats("MAML")),
        ("TURTLE beats the meta-learner LSTM", _turtle_beats("Meta-learner LSTM")),
    ),
    "table1": (*ON_IMAGES, ("TURTLE or the enhanced LSTM is best in half of the settings", _best_in_half)),
    "table2": ON_IMAGES,
    "fig5": (
        ("first-order algorithms are faster than their second-order variants", _faster(ORDERS)),
        ("TURTLE is not much slower than MAML (at most a quarter)", _faster([("TURTLE", "MAML")], 1.25)),
        ("TURTLE is faster than the enhanced LSTM", _faster([("TURTLE", TIMED[3])])),
    ),
}
