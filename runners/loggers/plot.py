"""Agents' charts drawn with matplotlib, as pictures for the loggers or on axes of a report."""

from __future__ import annotations

from typing import Any

from agents.charts import Chart
from fewshot_env.render import Picture, rasterised, shades


def picture_of_chart(chart: Chart, title: str) -> Picture:
    """A chart as a picture [H, W, 3]."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    plot_chart(axes, chart)
    axes.set_title(title)
    return rasterised(figure)


def plot_chart(axes: Any, chart: Chart) -> None:
    """A chart's curves and bands; many curves go from light to dark in their order."""
    x = chart.x.numpy(force=True)
    for (name, y), shade in zip(chart.lines.items(), shades(len(chart.lines)), strict=True):
        marker = "o" if len(x) <= 20 else None
        axes.plot(x, y.numpy(force=True), color=shade, label=name, marker=marker)
        if name in chart.bands:
            low, high = (v.numpy(force=True) for v in chart.bands[name])
            axes.fill_between(x, low, high, color=shade, alpha=0.25, linewidth=0)
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(alpha=0.25)
    if 1 < len(chart.lines) <= 12:
        axes.legend(fontsize="small")
