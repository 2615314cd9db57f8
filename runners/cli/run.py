"""The command `fsl run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fewshot_env.errors import FewShotError, SettingError, suggest
from runners.cli import completion as complete
from runners.cli.options import FOLDERS, OUTPUT, SETTINGS, AgentName, DataDir, Json, Quiet, Verbose
from runners.console.output import output

TASK, TRAINING, MACHINE = "Tasks", "Training", "Machine"


def run(
    env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="An environment (see fsl list); 'SOURCE->TARGET', in quotes, or SOURCE:TARGET to train on one and "
            "test on another; NAME+NAME for a mixture.",
            autocompletion=complete.environments,
        ),
    ] = None,
    agent: AgentName = None,
    n_way: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Classes per task, or a range to draw from, such as 3-10; default 5 (paper, Sect. 5.3).",
            rich_help_panel=TASK,
        ),
    ] = None,
    n_shot: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Support items per class, or a range such as 1-5; default sine 5 (Sect. 5.2), images 1 (Sect. 5.3 has "
            "1 and 5).",
            rich_help_panel=TASK,
        ),
    ] = None,
    n_query: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Query items per class; default sine 50, images 16 (the paper's code).",
            rich_help_panel=TASK,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="paper: the published numbers of tasks. quick: about a minute, to see how it works.",
            rich_help_panel=TRAINING,
        ),
    ] = "paper",
    tasks: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Training tasks; default sine 70000 (Sect. 5.2), images 60000, or 40000 from 5 shots on "
            "(the paper's code).",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    meta_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tasks per outer step; default turtle 2, maml on images 4, with 5 shots 2, else 1 (Appendix).",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Seed of the initial weights and the training tasks; default 0.", rich_help_panel=TRAINING
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            help="Runs, with the seeds SEED, SEED + 1, ...; small networks are trained together in one process (the "
            "paper has 30 on sine, 5 on images).",
            rich_help_panel=TRAINING,
        ),
    ] = 1,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes that share the tasks of every meta-batch, one thread each.",
            rich_help_panel=MACHINE,
        ),
    ] = 1,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="cpu, cuda, cuda:1, ...; default auto: CUDA if there is one.", rich_help_panel=MACHINE
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="fp32, or bf16 for the convolutions of Conv4; default fp32.", rich_help_panel=MACHINE
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting: agent.inner_lr=0.1, env.noise=0.3, val_every=1000; repeat for several. fsl show NAME "
            "lists them: NAME is an agent, an environment, or run.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML file with the same keys.", rich_help_panel=SETTINGS),
    ] = None,
    log_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder in which the run's folder is made.", rich_help_panel=FOLDERS)
    ] = Path("runs"),
    data_dir: DataDir = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Continue the interrupted run in this folder.", rich_help_panel=FOLDERS),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the settings, the number of parameters, and an estimate of time and memory; write nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Where results are logged besides files: tensorboard, wandb, mlflow, or module:Class; repeat for "
            "several; default tensorboard.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train an agent on an environment, test it, and log everything to a new folder.

    Example: fsl run --env sine --agent turtle --preset quick
    """
    from runners.config.settings import read_file, read_pairs

    options: dict[str, Any] = {
        "env": env, "agent": agent, "env.n_way": n_way, "env.n_shot": n_shot, "env.n_query": n_query,
        "train_tasks": tasks, "agent.meta_batch": meta_batch, "seed": seed, "device": device,
        "agent.precision": precision, "loggers": logger or None,
        "env.data_dir": None if data_dir is None else str(data_dir.expanduser().absolute()),
    }  # fmt: skip
    options = {key: value for key, value in options.items() if value is not None}
    pairs = read_pairs(set_ or [])
    if preset not in ("paper", "quick"):
        hint = suggest(preset, ("paper", "quick"))
        raise FewShotError(f"--preset is {preset!r}, but must be paper or quick{hint}")
    with output(as_json, quiet, verbose) as emit, _option_named(options.keys() - pairs.keys()):
        from runners.distributed import launch
        from runners.training import launcher

        if resume is not None:
            changed = options or set_ or config or dry_run
            if changed or preset != "paper" or log_dir != Path("runs") or seeds != 1:
                raise FewShotError(
                    "--resume continues a run with its own settings: the only other option is --processes"
                )
            folders = launcher.resume(resume, processes)
        else:
            settings = (read_file(config) if config else {}) | options | pairs
            if dry_run:
                from runners.training.estimate import estimate

                plans = launcher.planned(settings, preset, seeds, processes)
                emit(*estimate(plans, processes))
                return
            folders = launcher.begin(settings, preset, log_dir, seeds, processes)
        if launch.reports_result():
            emit(*launcher.report(folders))


@contextmanager
def _option_named(options: Iterable[str]) -> Iterator[None]:
    """Put the option's name before an error about a setting that an option gave."""
    try:
        yield
    except SettingError as error:
        option = "tasks" if error.key == "train_tasks" else error.key.rpartition(".")[2]
        raise FewShotError(f"--{option.replace('_', '-')}: {error}" if error.key in options else str(error)) from error
