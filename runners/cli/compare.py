"""The commands that look at finished runs: `fsl compare` and `fsl report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Json
from runners.console.output import voice


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs (or of runs by seed), or files that fsl eval wrote."),
    ],
    plot: Annotated[Path | None, typer.Option(help="Draw a picture, too: a PNG or SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Compare runs on the same test episodes, task by task, with the first: a table, and a picture (--plot)."""
    with voice(as_json) as tell:
        from runners.reporting import compare_view as view
        from runners.reporting.compare import numbers, read_all

        found = read_all(runs)
        words = view.table(found)
        if plot is not None:
            view.plot(found, plot)
            words += f"\npicture: {plot}"
        tell(numbers(found), words)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default report.html in the run's folder.")
    ] = None,
) -> None:
    """Write one page about a run, to be opened in any browser, offline."""
    from runners.reporting import report as reporting

    print(f"written to {reporting.write(run, out)}")
