"""matplotlib figures as files, and as SVG text that takes the text colour of its page (light or dark)."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_env import durable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#0a0b0c"  # replaced by the page's text colour
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 9.5, "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "text.parse_math": False,
}  # fmt: skip


def save_figure(figure: Figure, file: Path) -> None:
    """Write the figure as PNG or SVG, by the ending of `file`, which is whole or absent afterwards. Raises OSError."""
    from matplotlib import rc_context

    content, kind = io.BytesIO(), file.suffix[1:]
    with rc_context({"svg.hashsalt": "fewshot"}):
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    durable.write(file, content.getvalue())


def svg(title: str, plot: Callable[[Any], None], width: float = 5.2, height: float = 3.3) -> str:
    """Draw with `plot`, which takes matplotlib axes, and return an <svg> element labelled `title`; sizes in inches."""
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
    found = re.sub(r'<g id="[^"]*">', "<g>", found)  # without use, and the same in every figure
    return found.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
