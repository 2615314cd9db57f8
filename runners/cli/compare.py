"""The command `fsl compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Json
from runners.console.output import output


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs (or of runs by seed), or files that fsl eval wrote."),
    ],
    plot: Annotated[Path | None, typer.Option(help="Draw a picture, too: a PNG or SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Compare runs with the first, task by task on the same test episodes: a table, and a picture (--plot)."""
    with output(as_json) as emit:
        from runners.reporting import compare as comparison

        found = comparison.read_all(runs)
        text = comparison.table(found)
        if plot is not None:
            comparison.plot(found, plot)
            text += f"\npicture: {plot}"
        emit(comparison.as_plain(found), text)
