"""Claims: what the paper says of its results, and how our cells decide whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from runners.reproduce.machinery.statistics import ROUNDING, Estimate, disjoint
from runners.reproduce.machinery.summary import Summaries

Decision = tuple[bool | None, str]
"""Whether a claim holds (None: undecided), and the numbers that decide it."""
Decide = Callable[[Summaries], Decision]


@dataclass(frozen=True)
class Verdict:
    """A decided claim. holds: None where runs are missing or intervals leave it undecided. evidence: the numbers."""

    claim: str
    holds: bool | None
    evidence: str

    @property
    def text(self) -> str:
        """The verdict on a page."""
        return {True: "holds", False: "does not hold", None: "undecided"}[self.holds]


class MissingRuns(Exception):
    """The cells lack runs that a decision needs; the message says which."""


class Claim(NamedTuple):
    """A statement of the paper and the function that decides it; `decide` may raise MissingRuns."""

    text: str
    decide: Decide

    def verdict(self, cells: Summaries) -> Verdict:
        """The verdict of these cells."""
        try:
            return Verdict(self.text, *self.decide(cells))
        except MissingRuns as missing:
            return Verdict(self.text, None, str(missing))


def median_of(cells: Summaries, row: str, column: str) -> Estimate:
    """A cell's median over runs; raises MissingRuns where it has no run."""
    value = cells[row, column].paper_statistic
    if value is None:
        raise MissingRuns(f"no run of {row}, {column}")
    return value


def columns_of(cells: Summaries) -> list[str]:
    """The settings, in order."""
    return list(dict.fromkeys(column for _, column in cells))


def is_lower(a: Estimate, b: Estimate) -> bool | None:
    """Whether a is below b; None where their intervals overlap, or one has none."""
    return a.value < b.value if disjoint(a, b) else None


def is_close(a: Estimate, b: Estimate, tolerance: float) -> bool | None:
    """Whether two values differ by at most the tolerance, wherever they are within their intervals.

    False where they differ by more and their intervals do not overlap; None where the intervals are too wide to
    decide, or one has none.
    """
    if a.half is None or b.half is None:
        return None
    gap = abs(a.value - b.value)
    if gap + a.half + b.half <= tolerance + ROUNDING:
        return True
    return False if gap > tolerance + ROUNDING and disjoint(a, b) else None


def in_all(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether all hold: False where one fails, else None where one is undecided."""
    verdicts = list(verdicts)
    return False if False in verdicts else None if None in verdicts else True


def in_some(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether one holds and none fails: False where one fails, None where all are undecided."""
    verdicts = list(verdicts)
    return False if False in verdicts else True if True in verdicts else None


def decide_each(
    names: Iterable[str],
    decide: Callable[[str], Decision],
    together: Callable[[Iterable[bool | None]], bool | None] = in_all,
) -> Decision:
    """A decision for every column (or row), and for all `together`; where runs are missing it cannot be True."""
    parts: list[Decision] = []
    incomplete = False
    for name in names:
        try:
            holds, numbers = decide(name)
        except MissingRuns as missing:
            incomplete, holds, numbers = True, None, str(missing)
        parts.append((holds, f"{name}: {numbers}"))
    whole = together(holds for holds, _ in parts)
    return None if incomplete and whole else whole, "; ".join(numbers for _, numbers in parts)
