"""charts.jsonl: the charts of an agent at every validation, as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.charts import Chart
from runners.storage.schemas import ChartLine, read_lines

FILE = "charts.jsonl"


def as_plain(chart: Chart) -> dict[str, Any]:
    """A chart as plain numbers, for JSON."""

    def numbers(values: Tensor) -> list[float]:
        return [float(f"{v:.5g}") for v in values.tolist()]

    return {
        "x_label": chart.x_label,
        "y_label": chart.y_label,
        "x": numbers(chart.x),
        "lines": {name: numbers(y) for name, y in chart.lines.items()},
        "bands": {name: [numbers(v) for v in band] for name, band in chart.bands.items()},
    }


def read_charts(folder: Path) -> dict[str, list[tuple[int, Chart]]]:
    """Every chart of a run by name, as (tasks seen, chart) in order; raises FewShotError for an unreadable file."""
    found: dict[str, list[tuple[int, Chart]]] = {}
    for row in read_lines(ChartLine, folder / FILE):
        lines = {name: torch.tensor(y) for name, y in row.lines.items()}
        bands = {name: (torch.tensor(low), torch.tensor(high)) for name, (low, high) in row.bands.items()}
        chart = Chart(torch.tensor(row.x), lines, row.x_label, row.y_label, bands)
        found.setdefault(row.name, []).append((row.tasks, chart))
    return found
