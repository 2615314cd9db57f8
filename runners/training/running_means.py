"""RunningMeans: means of rows between two entries of the log."""

from __future__ import annotations

import math

from runners.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from runners.loggers.base import Row


class RunningMeans:
    """Sums and counts by tag between two rows of the log; plain numbers, so that a checkpoint can hold them."""

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

    def take(self, group: ProcessGroup = SINGLE_PROCESS) -> dict[str, float]:
        """The means since the last `take`, over all processes."""
        whole: dict[str, list[float]] = {}
        for sums in group.gather(self.sums):
            for tag, (total, count) in sums.items():
                one = whole.setdefault(tag, [0.0, 0.0])
                one[0] += total
                one[1] += count
        self.sums = {}
        return {tag: total / count for tag, (total, count) in whole.items()}
