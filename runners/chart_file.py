"""charts.jsonl: the charts of an agent at every validation, as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.chart import Chart
from fewshot_env.errors import FewShotError

FILE = "charts.jsonl"


def plain(chart: Chart) -> dict[str, Any]:
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
    if not (folder / FILE).exists():
        return found
    try:
        for row in map(json.loads, (folder / FILE).read_text().splitlines()):
            lines = {name: torch.tensor(y) for name, y in row["lines"].items()}
            bands = {name: (torch.tensor(low), torch.tensor(high)) for name, (low, high) in row["bands"].items()}
            chart = Chart(torch.tensor(row["x"]), lines, row["x_label"], row["y_label"], bands)
            found.setdefault(row["name"], []).append((row["tasks"], chart))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FewShotError(f"{folder / FILE} can not be read: {error}") from error
    return found
