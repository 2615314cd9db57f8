"""The command `fsl runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Json
from runners.console.output import columns, voice, width


def runs(
    log_dir: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """The past runs with their scores (mean and 95 % interval), newest last."""
    with voice(as_json) as tell:
        from runners.reporting.runs import past_runs

        found = past_runs(log_dir)
        rows = [run.row() for run in found]
        words = columns(rows, indent="") if rows else f"no runs in {log_dir}"
        if max(map(len, words.splitlines())) > width():  # the folder's name says most
            words = "\n".join(f"{row[-1]}\n  {', '.join(filter(None, row[3:-1]))}" for row in rows)
        tell([run.plain() for run in found], words)
