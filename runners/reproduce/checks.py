"""Checks: how a claim of the paper is decided by cells. `claims.py` has the claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from runners.reproduce.statistics import ROUNDING, Estimate, apart
from runners.reproduce.summary import Summaries

Decision = tuple[bool | None, str]
"""Whether something holds (None: left open), and the numbers, in words."""


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


class Missing(Exception):
    """A cell lacks what decides."""


def decided(claim: str, decide: Callable[[Summaries], Decision], found: Summaries) -> Verdict:
    """The verdict on a claim."""
    try:
        return Verdict(claim, *decide(found))
    except Missing as gap:
        return Verdict(claim, None, f"no run of {gap}")


def of(found: Summaries, row: str, column: str) -> Estimate:
    """A cell's median; raises Missing where it has no run."""
    value = found[row, column].paper
    if value is None:
        raise Missing(f"{row}, {column}")
    return value


def columns_of(found: Summaries) -> list[str]:
    """The settings, in order."""
    return list(dict.fromkeys(column for _, column in found))


def lower(a: Estimate, b: Estimate) -> bool | None:
    """Whether a is below b; None where their intervals meet, or one has none."""
    return a.value < b.value if apart(a, b) else None


def close(a: Estimate, b: Estimate, tolerance: float) -> bool | None:
    """Whether two values differ by no more than the tolerance, whatever they are within their intervals.

    False where they differ by more and their intervals do not meet; None where the intervals are too wide to tell, or
    one has none.
    """
    if a.half is None or b.half is None:
        return None
    gap = abs(a.value - b.value)
    if gap + a.half + b.half <= tolerance + ROUNDING:
        return True
    return False if gap > tolerance + ROUNDING and apart(a, b) else None


def everywhere(verdicts: Iterable[bool | None]) -> bool | None:
    """Holds everywhere: False where it fails once, else None where one is open."""
    verdicts = list(verdicts)
    return False if False in verdicts else None if None in verdicts else True


def somewhere(verdicts: Iterable[bool | None]) -> bool | None:
    """Holds somewhere and fails nowhere: False where it fails once, None where all are open."""
    verdicts = list(verdicts)
    return False if False in verdicts else True if True in verdicts else None


def each(
    columns: Iterable[str],
    decide: Callable[[str], Decision],
    together: Callable[[Iterable[bool | None]], bool | None] = everywhere,
) -> Decision:
    """A decision for every column, and together; a column whose runs are missing leaves it open."""
    parts: list[Decision] = []
    gap = False
    for column in columns:
        try:
            holds, words = decide(column)
        except Missing as missing:
            gap, holds, words = True, None, f"no run of {missing}"
        parts.append((holds, f"{column}: {words}"))
    whole = together(holds for holds, _ in parts)
    return None if gap and whole else whole, "; ".join(words for _, words in parts)
