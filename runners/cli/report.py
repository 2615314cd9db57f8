"""The command `fsl report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runners.cli.options import Agent, Network


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default report.html in the run's folder.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(metavar="MODULE:CLASS", help="Allow the environment of your own that a run names.")
    ] = None,
    agent: Agent = None,
    network: Network = None,
) -> None:
    """Write one page about a run, to be opened in any browser, offline."""
    from runners.reporting.report import write

    print(f"written to {write(run, out, (env, agent, network))}")
