"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli import completion as complete

OUTPUT, FOLDERS, SETTINGS = "Output", "Folders", "Settings"

AgentName = Annotated[
    str | None,
    typer.Option(help="A name (see fsl list), or my_module:MyAgent.", autocompletion=complete.agents),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Prepared data sets; default $FSL_HOME/data or ~/.cache/fsl/data.",
        rich_help_panel=FOLDERS,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="The result as JSON, and nothing else, on stdout.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="The result alone: no progress.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", help="Also all settings, every row of the log, tracebacks.", rich_help_panel=OUTPUT),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
