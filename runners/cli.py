"""The command line `fsl`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from fewshot_env.errors import FewShotError
from runners import launch
from runners.data_cli import DataDir, data_app

app = typer.Typer(
    name="fsl",
    help="Few-shot task environments and meta-learning agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]


@app.command()
def run(
    env: Annotated[
        str | None, typer.Option(help="NAME, or 'SOURCE->TARGET' (also SOURCE:TARGET): see fsl list.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="A name (see fsl list), or my_module:MyAgent.")] = None,
    preset: Annotated[
        str, typer.Option(help="paper: the published numbers of tasks. quick: a minute, for a first look.")
    ] = "paper",
    n_way: Annotated[int | None, typer.Option(help="Classes per task.")] = None,
    n_shot: Annotated[int | None, typer.Option(help="Support items per class.")] = None,
    n_query: Annotated[int | None, typer.Option(help="Query items per class.")] = None,
    tasks: Annotated[int | None, typer.Option(help="Training tasks.")] = None,
    meta_batch: Annotated[int | None, typer.Option(help="Tasks per outer step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and training tasks.")] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Runs with seeds SEED, SEED + 1, ..., side by side if the base learner is small."),
    ] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share every meta-batch, one thread each.")] = 1,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, or bf16 for Conv4's convolutions.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting: agent.inner_lr=0.1, env.noise=0.3, val_every=1000."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of the same keys.")] = None,
    log_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    data_dir: DataDir = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue an interrupted run, exactly.")] = None,
) -> None:
    """Train an agent on an environment, test it, and log everything to a new folder."""
    from runners.settings import read_file, read_pairs

    options: dict[str, Any] = {
        "env": env, "agent": agent, "env.n_way": n_way, "env.n_shot": n_shot, "env.n_query": n_query,
        "train_tasks": tasks, "agent.meta_batch": meta_batch, "seed": seed, "device": device,
        "agent.precision": precision, "env.data_dir": None if data_dir is None else str(data_dir.absolute()),
    }  # fmt: skip
    options = {key: value for key, value in options.items() if value is not None}
    if preset not in ("paper", "quick"):
        raise FewShotError(f"--preset is {preset!r}, but must be paper or quick")
    from runners import carry_out

    if resume is not None:
        if options or set_ or config or preset != "paper" or log_dir != Path("runs") or seeds != 1:
            raise FewShotError("--resume continues a run as it was: give no other settings with it but --processes")
        carry_out.resume(resume, processes)
        return
    settings = (read_file(config) if config else {}) | options | read_pairs(set_ or [])
    carry_out.begin(settings, preset, log_dir, seeds, processes)


@app.command(name="eval")
def eval_(
    run: RunFolder,
    env: Annotated[
        str | None, typer.Option(help="Another environment to test on; default the run's own target.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(help="Test tasks.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Settings of the test: env.n_shot=5, agent.eval_steps=20."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Test a run's best weights on frozen test episodes, of its own or another environment."""
    from runners.evaluate import in_words
    from runners.retest import retest
    from runners.settings import read_pairs

    changes = read_pairs(set_ or [])
    if tasks is not None:
        changes["test_tasks"] = tasks
    if data_dir is not None:
        changes["env.data_dir"] = str(data_dir.absolute())
    result, file = retest(run, env, changes)
    print(f"test on {result['env']}: {in_words(result)}")
    print(f"written to {file}")


@app.command()
def bench(
    agent: Annotated[list[str] | None, typer.Option(help="Repeat for several; default maml, turtle, lstm.")] = None,
    workload: Annotated[
        list[str] | None, typer.Option(help="sine, conv4 or conv4-5shot; repeat for several; default sine and conv4.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Settings: agent.inner_steps=100.")
    ] = None,
    meta_batch: Annotated[int | None, typer.Option(help="Tasks per outer step.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share every meta-batch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    seconds: Annotated[float, typer.Option(min=0, help="How long to time each.")] = 10.0,
) -> None:
    """Tasks per second, memory, and the share of this machine's limit; needs no data."""
    from runners.bench import Cell, check, measure, table
    from runners.settings import read_pairs, section

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
        print(f"{number} of {len(cells)}: {cell.agent} on {cell.workload}", file=sys.stderr, flush=True)
        found.append((cell, measure(cell)))
    print(table(found))


@app.command(name="list")
def list_() -> None:
    """The environments, the agents, and which data are ready."""
    from agents.registry import AGENTS
    from agents.registry import load_plugins as load_agents
    from fewshot_env.datasets import DATASETS
    from fewshot_env.registry import ENVS
    from fewshot_env.registry import load_plugins as load_envs
    from fewshot_env.store import data_dir, is_prepared

    load_envs()
    load_agents()
    print("environments (join two as 'SOURCE->TARGET')")
    for entry in ENVS.values():
        ready = entry.name not in DATASETS or is_prepared(data_dir() / entry.name)
        print(f"  {entry.name:<15} {entry.summary}{'' if ready else f'  [no data: fsl data prepare {entry.name}]'}")
    print("agents")
    for spec in AGENTS.values():
        print(f"  {spec.name:<15} {spec.summary}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An agent or environment (see fsl list), my_module:MyAgent, or run.")],
) -> None:
    """Every setting of an agent, an environment or a run, with its default and what it means."""
    from agents.registry import find
    from fewshot_env.registry import ENVS
    from fewshot_env.sampler import sampler_class
    from runners.plan import RESERVED, RunConfig, describe, load_plugins, paper_choices

    load_plugins()
    if name == "run":
        print("a run; what depends on the tasks stands below\n")
        print(describe(RunConfig, ""))
        print(paper_choices(None))
    elif name in ENVS:
        print(f"{name}: {ENVS[name].summary}\n")
        print(describe(sampler_class(ENVS[name].sampler).Config, "env.", hidden=RESERVED))
    else:
        spec = find(name)
        print(f"{spec.name}: {spec.summary}\n")
        print(describe(spec.load().Config, "agent.", spec.settings))
        print(paper_choices(spec))


def main() -> None:
    """Run `fsl`; bad input ends with one line and exit code 2. A warning is one line, too."""
    warnings.formatwarning = lambda message, *_, **__: f"fsl: warning: {message}\n"
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (FewShotError, OSError) as error:
        if not launch.quiet():
            print(f"fsl: {error}", file=sys.stderr)
        sys.exit(2)
