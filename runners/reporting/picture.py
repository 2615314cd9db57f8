"""Pictures: a matplotlib figure as a file, PNG or SVG by its ending, the same bytes each time."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_env import durable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, file: Path) -> None:
    """Write the figure, at its own resolution, so that `file` is whole or absent. Raises OSError."""
    from matplotlib import rc_context

    content, kind = BytesIO(), file.suffix[1:]
    with rc_context({"svg.hashsalt": "fewshot"}):
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    durable.write(file, content.getvalue())
