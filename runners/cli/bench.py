"""The command `fsl bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from fewshot_env.errors import FewShotError
from runners.cli import completion as complete
from runners.cli.options import Json, Quiet
from runners.console.output import log, voice


def bench(
    agent: Annotated[
        list[str] | None,
        typer.Option(help="Repeat for several; default maml, turtle, lstm.", autocompletion=complete.agents),
    ] = None,
    workload: Annotated[
        list[str] | None, typer.Option(help="sine, conv4 or conv4-5shot; repeat for several; default sine and conv4.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Settings: agent.inner_steps=100.")
    ] = None,
    meta_batch: Annotated[int | None, typer.Option(help="Tasks per outer step; default the paper's.")] = None,
    processes: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that share every meta-batch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    seconds: Annotated[float, typer.Option(min=0, metavar="S", help="How long to time each.")] = 10.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tasks per second, memory, and the share of this machine's limit; needs no data."""
    with voice(as_json, quiet) as tell:
        from dataclasses import asdict

        from runners.config.settings import read_pairs, section
        from runners.training.bench import Cell, check, measure, table

        changes = read_pairs(set_ or []) | ({} if meta_batch is None else {"agent.meta_batch": meta_batch})
        wrong = [key for key in changes if not key.startswith("agent.")]
        if wrong:
            raise FewShotError(f"--set {wrong[0]} is not a setting of an agent; fsl bench takes only agent.NAME=VALUE")
        settings = section(changes, "agent")
        cells = [
            Cell(a, w, settings, device, processes, seconds)
            for w in workload or ["sine", "conv4"]
            for a in agent or ["maml", "turtle", "lstm"]
        ]
        for cell in cells:
            check(cell)
        found = []
        for number, cell in enumerate(cells, 1):
            log.info(f"{number} of {len(cells)}: {cell.agent} on {cell.workload}")
            found.append((cell, measure(cell)))
        tell([asdict(cell) | asdict(row) for cell, row in found], table(found))
