"""The command `fsl eval`."""

from __future__ import annotations

from typing import Annotated

import typer

from runners.cli import completion as complete
from runners.cli.options import Agent, DataDir, Json, Network, Quiet, TrainedFile, Verbose
from runners.console.output import log, output


def eval_(
    run: TrainedFile,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Another environment to test on; default the one that the run was tested on.",
            autocompletion=complete.environments,
        ),
    ] = None,
    tasks: Annotated[int | None, typer.Option(metavar="N", help="Test tasks; default as in the run.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting to change for this test: env.n_shot=5.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ..., auto; default as in the run.")
    ] = None,
    agent: Agent = None,
    network: Network = None,
    data_dir: DataDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Test the best weights of a run again, on the same or another environment."""
    from runners.config.settings import read_pairs

    changes = read_pairs(set_ or [])
    if tasks is not None:
        changes["test_tasks"] = tasks
    if device is not None:
        changes["device"] = device
    if data_dir is not None:
        changes["env.data_dir"] = str(data_dir.expanduser().absolute())
    with output(as_json, quiet, verbose) as emit:
        from runners.evaluation.evaluate import in_words
        from runners.evaluation.result import remarks
        from runners.evaluation.retest import retest

        result, file = retest(run, env, changes, agent, network)
        emit(result | {"file": file and str(file)}, f"test on {result['env']}: {in_words(result)}{remarks([result])}")
        if file is not None:
            log.info(f"written to {file}")
