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
"""Two accuracies are close where they differ by no more than this."""


@dataclass(frozen=True)
class Verdict:
    """holds: None where there are not enough runs to decide. evidence: the numbers, in words."""

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


def _all(parts: Iterable[tuple[bool | None, str]]) -> Decision:
    parts = list(parts)
    verdicts = [verdict for verdict, _ in parts]
    holds = None if None in verdicts and False not in verdicts else False not in verdicts
    return holds, "; ".join(words for _, words in parts)


def _lower(a: Estimate, b: Estimate) -> bool | None:
    """Whether a is below b by their intervals."""
    clear = apart(a, b)
    return None if clear is None else clear and a.value < b.value


STEPS = ("T = 1", "T = 5", "T = 10")
LAYERS = range(1, 7)


def _best(found: Summaries, agent: str, column: str) -> tuple[int, Estimate]:
    """The number of hidden layers with the lowest error, and that error."""
    all_of = {n: _of(found, turtle_row(agent, n), column) for n in LAYERS}
    n = min(all_of, key=lambda n: all_of[n].value)
    return n, all_of[n]


def _second_order_turtle(found: Summaries) -> Decision:
    pairs = [(t, _best(found, "TURTLE", t)[1], _best(found, "First-order TURTLE", t)[1]) for t in STEPS]
    return _all((_lower(so, fo), f"{t}: best first-order {fo}, best second-order {so}") for t, so, fo in pairs)


def _maml_orders_on_sine(found: Summaries) -> Decision:
    pairs = [(t, _of(found, "FO-MAML", t), _of(found, "MAML", t)) for t in STEPS]
    return _all((_close(fo, so), f"{t}: FO {fo}, SO {so}") for t, fo, so in pairs)


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
    best = {t: _best(found, "TURTLE", t)[0] for t in STEPS}
    return all(n in (5, 6) for n in best.values()), ", ".join(f"{t}: {n}" for t, n in best.items())


def _turtle_beats(other: str) -> Callable[[Summaries], Decision]:
    def decide(found: Summaries) -> Decision:
        ours, theirs = _of(found, "TURTLE", "sine"), _of(found, other, "sine")
        return _lower(ours, theirs), f"TURTLE {ours}, {other} {theirs}"

    return decide


def _columns(found: Summaries) -> list[str]:
    return list(dict.fromkeys(column for _, column in found))


def _better_on_images(better: str, worse: str) -> Callable[[Summaries], Decision]:
    """Whether one agent's accuracy is higher in every setting, but for equal ones to two digits."""

    def decide(found: Summaries) -> Decision:
        pairs = [(c, _of(found, better, c), _of(found, worse, c)) for c in _columns(found)]
        return _all((round(a.value, 2) >= round(b.value, 2), f"{c}: {a} against {b}") for c, a, b in pairs)

    return decide


def _maml_orders_on_images(found: Summaries) -> Decision:
    pairs = [(c, _of(found, "FO-MAML", c), _of(found, "MAML", c)) for c in _columns(found)]
    return _all((abs(a.value - b.value) <= CLOSE_ACCURACY, f"{c}: FO {a}, SO {b}") for c, a, b in pairs)


def _best_in_half(found: Summaries) -> Decision:
    columns, ours = _columns(found), ("TURTLE", "Meta-learner LSTM (enhanced)")
    others = [row for row in dict.fromkeys(row for row, _ in found) if row not in ours]

    def best(rows: Iterable[str], column: str) -> float:
        return max(_of(found, row, column).value for row in rows)

    won = [column for column in columns if best(ours, column) > best(others, column)]
    return 2 * len(won) >= len(columns), f"{len(won)} of {len(columns)} settings: {', '.join(won) or 'none'}"


def _faster(pairs: Iterable[tuple[str, str]], share: float = 1.0) -> Callable[[Summaries], Decision]:
    """Whether the first of every pair needs less than `share` times the second's time, in every setting."""

    def decide(found: Summaries) -> Decision:
        def hours(row: str, column: str) -> float:
            value = mean(found[row, column].hours)
            if value is None:
                raise Missing(f"{row}, {column}, that holds its time")
            return value

        timed = [(c, a, b, hours(a, c), hours(b, c)) for c in _columns(found) for a, b in pairs]
        return _all((x < share * y, f"{c}: {a} {x:.3g} h, {b} {y:.3g} h") for c, a, b, x, y in timed)

    return decide


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
