"""The commands `fsl run` and `fsl eval`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fewshot_env.errors import FewShotError, SettingError
from runners.cli import completion as complete
from runners.cli.options import FOLDERS, OUTPUT, SETTINGS, AgentName, DataDir, Json, Quiet, RunFolder, Verbose
from runners.console.output import voice

TASK, TRAINING, MACHINE = "Tasks", "Training", "Machine"


def run(
    env: Annotated[
        str | None,
        typer.Option(
            help="NAME, 'SOURCE->TARGET' (also SOURCE:TARGET), or NAME+NAME for a mixture: see fsl list.",
            autocompletion=complete.environments,
        ),
    ] = None,
    agent: AgentName = None,
    n_way: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Classes per task; 3-10 draws; default 5 (paper, Sect. 5.3).", rich_help_panel=TASK
        ),
    ] = None,
    n_shot: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Support items per class; 1-5 draws; default sine 5 (Sect. 5.2), images 1 (Sect. 5.3 has 1 and 5).",
            rich_help_panel=TASK,
        ),
    ] = None,
    n_query: Annotated[
        int | None,
        typer.Option(
            help="Query items per class; default sine 50, images 16 (the paper's code).", rich_help_panel=TASK
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="paper: the published numbers of tasks. quick: a minute, for a first look.", rich_help_panel=TRAINING
        ),
    ] = "paper",
    tasks: Annotated[
        int | None,
        typer.Option(
            help="Training tasks; default sine 70000 (Sect. 5.2), images 60000, or 40000 from 5 shots on "
            "(the paper's code).",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    meta_batch: Annotated[
        int | None,
        typer.Option(
            help="Tasks per outer step; default turtle 2, maml on images 4, with 5 shots 2, else 1 (Appendix).",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights and training tasks; default 0.", rich_help_panel=TRAINING)
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            help="Runs with seeds SEED, SEED + 1, ..., side by side if the base learner is small (the paper has 30 on "
            "sine, 5 on images).",
            rich_help_panel=TRAINING,
        ),
    ] = 1,
    processes: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Processes that share every meta-batch, one thread each.", rich_help_panel=MACHINE
        ),
    ] = 1,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, ...; default auto: CUDA where there is one.", rich_help_panel=MACHINE),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, or bf16 for Conv4's convolutions; default fp32.", rich_help_panel=MACHINE),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting: agent.inner_lr=0.1, env.noise=0.3, val_every=1000 (fsl show AGENT, ENV or run).",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of the same keys.", rich_help_panel=SETTINGS)] = None,
    log_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.", rich_help_panel=FOLDERS)] = Path(
        "runs"
    ),
    data_dir: DataDir = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Continue an interrupted run, exactly.", rich_help_panel=FOLDERS),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the settings, the parameters, and an estimate of time and memory; write nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Where numbers go besides files: tensorboard, wandb, mlflow, or module:Class; repeat for several; "
            "default tensorboard.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train an agent on an environment, test it, and log everything to a new folder."""
    from runners.config.settings import read_file, read_pairs

    options: dict[str, Any] = {
        "env": env, "agent": agent, "env.n_way": n_way, "env.n_shot": n_shot, "env.n_query": n_query,
        "train_tasks": tasks, "agent.meta_batch": meta_batch, "seed": seed, "device": device,
        "agent.precision": precision, "loggers": logger or None,
        "env.data_dir": None if data_dir is None else str(data_dir.absolute()),
    }  # fmt: skip
    options = {key: value for key, value in options.items() if value is not None}
    pairs = read_pairs(set_ or [])
    if preset not in ("paper", "quick"):
        raise FewShotError(f"--preset is {preset!r}, but must be paper or quick")
    with voice(as_json, quiet, verbose) as tell, named(options.keys() - pairs.keys()):
        from runners.distributed import launch
        from runners.training import launcher as carry_out

        if resume is not None:
            changed = options or set_ or config or dry_run
            if changed or preset != "paper" or log_dir != Path("runs") or seeds != 1:
                raise FewShotError("--resume continues a run as it was: give no other settings with it but --processes")
            done = carry_out.resume(resume, processes)
        else:
            settings = (read_file(config) if config else {}) | options | pairs
            if dry_run:
                from runners.training.estimate import estimate

                plans = carry_out.planned(settings, preset, seeds, processes)
                tell(*estimate(plans, processes))
                return
            done = carry_out.begin(settings, preset, log_dir, seeds, processes)
        if launch.tells():
            tell(*carry_out.report(done))


@contextmanager
def named(options: Iterable[str]) -> Iterator[None]:
    """Complaints about a setting that an option gave name the option."""
    try:
        yield
    except SettingError as error:
        option = "tasks" if error.key == "train_tasks" else error.key.rpartition(".")[2]
        raise FewShotError(f"--{option.replace('_', '-')}: {error}" if error.key in options else str(error)) from error


def eval_(
    run: RunFolder,
    env: Annotated[
        str | None,
        typer.Option(
            help="Another environment to test on; default the run's own target.", autocompletion=complete.environments
        ),
    ] = None,
    tasks: Annotated[int | None, typer.Option(help="Test tasks; default the run's.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Settings of the test: env.n_shot=5, agent.eval_steps=20."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Test a run's best weights on frozen test episodes, of its own or another environment."""
    from runners.config.settings import read_pairs

    changes = read_pairs(set_ or [])
    if tasks is not None:
        changes["test_tasks"] = tasks
    if data_dir is not None:
        changes["env.data_dir"] = str(data_dir.absolute())
    with voice(as_json, quiet, verbose) as tell:
        from runners.console.output import log
        from runners.evaluation.evaluate import in_words
        from runners.evaluation.retest import retest

        result, file = retest(run, env, changes)
        tell(result | {"file": str(file)}, f"test on {result['env']}: {in_words(result)}")
        log.info(f"written to {file}")
