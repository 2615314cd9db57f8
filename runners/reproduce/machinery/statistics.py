"""Statistics over runs, as the paper states them and as the published implementation computed them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with half of its 95 % interval (None with fewer than two runs, or where a run is not finite)."""

    value: float
    half: float | None
    runs: int

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if self.half is None else f" ± {self.half:.3f}")


@dataclass(frozen=True)
class Reference:
    """A published value for a cell; rounding: how far rounding may have moved an end of its interval."""

    estimate: Estimate
    rounding: float

    @property
    def widened(self) -> Estimate:
        """The value with its interval widened by the rounding."""
        half = self.estimate.half
        return Estimate(self.estimate.value, None if half is None else half + self.rounding, self.estimate.runs)


ROUNDING = 1e-9
"""Far above the rounding of float64 and far below any difference that counts, so that 0.56 - 0.54 is 0.02."""

PAPER = "median over runs ± 1.96 sd / sqrt(runs)"
"""The paper: "median ... and 95 % confidence intervals over runs"; the form of the interval is the published code's."""

PUBLISHED = {
    "test": "mean over runs of each run's median over tasks, runs beyond 1.5 interquartile ranges left out, "
    "± 1.96 sd / sqrt(runs left)",
    "validation": "mean over runs ± 1.96 sd / sqrt(runs), sd with divisor n",
}
"""The published implementation: its script for tables of tests, and the one for validations."""


def median_over_runs(values: Sequence[float]) -> Estimate:
    """The statistic that `PAPER` describes, of one score per run."""
    return Estimate(float(np.median(values)), _half(values), len(values))


def mean_without_outliers(values: Sequence[float]) -> Estimate:
    """The statistic that `PUBLISHED["test"]` describes, of one median per run."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return Estimate(math.inf, None, 0)
    low, high = np.percentile(finite, [25, 75])
    reach = 1.5 * (high - low)
    kept = [v for v in finite if low - reach <= v <= high + reach]
    return Estimate(float(np.mean(kept)), _half(kept), len(kept))


def mean_over_runs(values: Sequence[float]) -> Estimate:
    """The statistic that `PUBLISHED["validation"]` describes, of one score per run."""
    return Estimate(float(np.mean(values)), _half(values, ddof=0), len(values))


def disjoint(a: Estimate, b: Estimate) -> bool | None:
    """Whether the intervals do not overlap; None where one has no interval."""
    if a.half is None or b.half is None:
        return None
    return abs(a.value - b.value) > a.half + b.half + ROUNDING


def _half(values: Sequence[float], ddof: int = 1) -> float | None:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return float(1.96 * np.std(values, ddof=ddof) / math.sqrt(len(values)))
