"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli import completion as complete

OUTPUT, FOLDERS, SETTINGS = "Output", "Folders", "Settings"

AgentName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="An agent (see fsl list), or my_module:MyAgent.", autocompletion=complete.agents),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of the prepared data sets; default $FSL_HOME/data or ~/.cache/fsl/data.",
        rich_help_panel=FOLDERS,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result only, no progress.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", help="Also print all settings, every row of the log, and tracebacks.", rich_help_panel=OUTPUT
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
TrainedFile = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a run, or a file of fsl export (.safetensors).")
]
Agent = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:CLASS",
        help="Allow the class of your own that RUN names; nothing else is imported.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option(metavar="MODULE:FACTORY", help="Allow the network of your own that it names."),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...; default auto: CUDA if there is one.")
]
Background = Annotated[
    str, typer.Option(metavar="COLOUR", help="What transparent parts are laid over: white, black, '#808080'.")
]
AgentSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the agent to change, for example agent.eval_steps=20 of maml.",
    ),
]
