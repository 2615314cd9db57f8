"""Scores of several seeds as one, and scores in a few words. Results are what result.json holds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]


def over_seeds(results: Sequence[Result]) -> dict[str, Any]:
    """Mean of the seeds' means with its 95 % interval over seeds; None where fewer than one, or two, are finite."""
    means = [r["mean"] for r in results if r["mean"] is not None]
    return {
        "metric": results[0]["metric"],
        "mean": statistics.fmean(means) if means else None,
        "ci95": 1.96 * statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None,
        "lowest": min(means, default=None),
        "highest": max(means, default=None),
        "seeds": len(means),
        "diverged": sum(r["diverged"] for r in results),
    }


def short(result: Result) -> str:
    """Like "accuracy 0.312 ± 0.014", without what is not known."""
    if result["mean"] is None:
        return f"{result['metric']} diverged"
    interval = "" if result["ci95"] is None else f" ± {result['ci95']:.3f}"
    return f"{result['metric']} {result['mean']:.3f}{interval}"


def seeds_in_words(summary: Result, count: int) -> str:
    """One line: "mse 0.471 ± 0.013 (95 % interval over 3 seeds), from 0.460 to 0.487"."""
    if summary["seeds"] < 2:
        return f"{summary['metric']}: fewer than two of {count} seeds have a finite mean"
    diverged = f", {summary['diverged']} tasks diverged" if summary["diverged"] else ""
    return (
        f"{short(summary)} (95 % interval over {summary['seeds']} seeds), "
        f"from {summary['lowest']:.3f} to {summary['highest']:.3f}{diverged}"
    )
