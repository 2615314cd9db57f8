"""The command `fsl runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Json
from runners.console.output import columns, output, terminal_width


def runs(
    log_dir: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List runs with their scores (mean and 95 % interval), newest last."""
    with output(as_json) as emit:
        from runners.reporting.runs import list_runs

        found = list_runs(log_dir)
        rows = [run.row() for run in found]
        words = columns(rows, indent="") if rows else f"no runs in {log_dir}"
        if max(map(len, words.splitlines())) > terminal_width():  # the folder's name repeats the rest
            words = "\n".join(f"{row[-1]}\n  {', '.join(filter(None, row[3:-1]))}" for row in rows)
        emit([run.as_plain() for run in found], words)
