"""Means over runs that differ in their seeds, with 95 % intervals by Student's t; results as one line of text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
"""What result.json holds."""


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t with `freedom` degrees of freedom: 4.30 for 2, 1.96 for infinitely many."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean over runs, by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    return t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def welch_half_width(a: Sequence[float], b: Sequence[float]) -> float:
    """Half of the 95 % interval of the difference of two means, each over two or more runs (Welch's t).

    The variances may differ; the degrees of freedom are Welch and Satterthwaite's.
    """
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in (a, b)]
    variance = sum(part for part, _ in parts)
    if not variance > 0:
        return variance  # all equal, or NaN
    freedom = 1 / sum((part / variance) ** 2 / own for part, own in parts)
    return t_quantile(freedom) * math.sqrt(variance)


def over_seeds(results: Sequence[Result]) -> dict[str, Any]:
    """The mean of the seeds' means with its 95 % interval over seeds (Student's t).

    Seeds whose mean is not finite are excluded. "mean" is None where none is left, "ci95" where fewer than two are.
    """
    means = [r["mean"] for r in results if r["mean"] is not None]
    return {
        "metric": results[0]["metric"],
        "mean": statistics.fmean(means) if means else None,
        "ci95": half_width(means),
        "lowest": min(means, default=None),
        "highest": max(means, default=None),
        "seeds": len(means),
        "diverged": sum(r["diverged"] for r in results),
    }


def short(result: Result) -> str:
    """The score as text: "accuracy 0.312 ± 0.014", without the interval where there is none."""
    if result["mean"] is None:
        return f"{result['metric']} diverged"
    interval = "" if result["ci95"] is None else f" ± {result['ci95']:.3f}"
    return f"{result['metric']} {result['mean']:.3f}{interval}"


def seeds_in_words(summary: Result, count: int) -> str:
    """One line: "mse 0.471 ± 0.013 (95 % interval over 3 seeds, Student's t), from 0.460 to 0.487"."""
    if summary["seeds"] < 2:
        return f"{summary['metric']}: fewer than two of {count} seeds have a finite mean"
    diverged = f", {summary['diverged']} tasks diverged" if summary["diverged"] else ""
    return (
        f"{short(summary)} (95 % interval over {summary['seeds']} seeds, Student's t), "
        f"from {summary['lowest']:.3f} to {summary['highest']:.3f}{diverged}"
    )
