"""matplotlib figures as SVG text for a page: they take its text colour, so that they suit light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

INK = "#0a0b0c"  # stands for the page's text colour
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 9.5, "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "text.parse_math": False,
}  # fmt: skip


def svg(title: str, plot: Callable[[Any], None], width: float = 5.2, height: float = 3.3) -> str:
    """What `plot` draws on the axes that it is given, as an <svg> element called `title`; inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    text = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure.subplots())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    found = text.getvalue()
    found = found[found.index("<svg") :].replace(INK, "currentColor")
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    found = re.sub(r'<g id="[^"]*">', "<g>", found)  # of no use, and the same in every figure
    return found.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
