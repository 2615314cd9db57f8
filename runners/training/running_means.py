"""Meter: means of rows between two log entries."""

from __future__ import annotations

import math

from runners.distributed.process_group import ALONE, Team
from runners.loggers.base import Row


class Meter:
    """Sums and counts by tag; plain numbers, so that a checkpoint can hold it."""

    def __init__(self, sums: dict[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = sums or {}

    def add(self, prefix: str, row: Row, weight: float = 1) -> None:
        """Take in one row; numbers that are not finite are left out (the step was skipped and counted so)."""
        for name, value in row.items():
            if not math.isfinite(value):
                continue
            total = self.sums.setdefault(f"{prefix}/{name}", [0.0, 0.0])
            total[0] += value * weight
            total[1] += weight

    def take(self, team: Team = ALONE) -> dict[str, float]:
        """The means since the last `take`, over what all processes of the team took in."""
        whole: dict[str, list[float]] = {}
        for sums in team.gather(self.sums):
            for tag, (total, count) in sums.items():
                one = whole.setdefault(tag, [0.0, 0.0])
                one[0] += total
                one[1] += count
        self.sums = {}
        return {tag: total / count for tag, (total, count) in whole.items()}
