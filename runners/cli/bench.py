"""The command `fsl bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from fewshot_env.errors import FewShotError
from runners.cli import completion as complete
from runners.cli.options import Json, Quiet
from runners.console.output import log, output


def bench(
    agent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An agent; repeat for several; default maml, turtle and lstm.",
            autocompletion=complete.agents,
        ),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="sine, conv4 or conv4-5shot; repeat for several; default sine and conv4."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the agents: agent.inner_steps=100."),
    ] = None,
    meta_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Tasks per outer step; default the paper's.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that share the tasks of every meta-batch.")
    ] = 1,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")] = "cpu",
    seconds: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds to measure each agent.")] = 10.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure meta-training here: tasks per second, memory, and the share of the machine's peak. Needs no data."""
    with output(as_json, quiet) as emit:
        from dataclasses import asdict

        from agents.registry import find
        from fewshot_env.settings import did_you_mean, fields_of
        from runners.config.settings import read_pairs, section
        from runners.training.bench import Case, measure, table, verify

        changes = read_pairs(set_ or []) | ({} if meta_batch is None else {"agent.meta_batch": meta_batch})
        agents = agent or ["maml", "turtle", "lstm"]
        wrong = [key for key in changes if not key.startswith("agent.")]
        if wrong:
            known = [key for name in agents for key in fields_of(find(name).load().Config, "agent.")]
            hint = did_you_mean(wrong[0], known)
            raise FewShotError(
                f"--set {wrong[0]} is not a setting of an agent{hint}; fsl bench takes only those, as agent.NAME=VALUE"
            )
        settings = section(changes, "agent")
        cases = [
            Case(a, w, settings, device, processes, seconds) for w in workload or ["sine", "conv4"] for a in agents
        ]
        for case in cases:
            verify(case)
        measured = []
        for number, case in enumerate(cases, 1):
            log.info(f"{number} of {len(cases)}: {case.agent} on {case.workload}")
            measured.append((case, measure(case)))
        if any(row.share_of_limit is None for _, row in measured):
            log.warning(
                "fsl: a share of the limit is unknown: the work was faster than the limit that was measured beside it; "
                "measure again on an idle machine"
            )
        emit([asdict(case) | asdict(measurement) for case, measurement in measured], table(measured))
