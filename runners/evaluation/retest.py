"""Test a finished run again, on its own or another environment."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents import registry as agent_registry
from agents import saved
from agents.base import Agent
from agents.networks import is_custom
from agents.networks.weights import weights_follow
from agents.neural import verify_statistics
from fewshot_env.errors import FewShotError
from fewshot_env.pair import EnvPair, file_name
from fewshot_env.sampler import sampler_class
from fewshot_env.shapes import IntRange, bounds
from runners.config.machine import tune
from runners.config.named import verify_named
from runners.config.plan import Plan, data_dir_of, load_plugins, make_plan
from runners.config.settings import Settings, section
from runners.console.output import log
from runners.console.progress import progress
from runners.evaluation.evaluate import evaluate, frozen_seeds
from runners.evaluation.non_finite import save_diverged
from runners.evaluation.result import build, short_hash
from runners.storage import checkpoint
from runners.storage.checkpoint import RunPlace, RunProgress
from runners.storage.run_folder import write_json
from runners.storage.schemas import read_preset, read_settings


def retest(
    source: Path, env: str | None, changes: Settings, agent: str | None = None, network: str | None = None
) -> tuple[dict[str, Any], Path | None]:
    """Evaluate a run's best weights, or a file of `fsl export`, on frozen test episodes.

    Args:
        source: the run's folder, or the file.
        env: the environment to test on; None: the run's own target.
        changes: settings that differ from the run's.
        agent: module:Class, which allows the run or file to name a class of somebody's own.
        network: module:factory, likewise.

    Returns:
        The result, and the file in the run's folder that holds it; none for an exported file, where nothing is written.

    Raises:
        FewShotError: where the run has no usable weights or `env` has other spaces.
    """
    exported, folder = checkpoint.load(source) if source.is_file() else None, source
    settings = read_settings(source) if exported is None else _settings_of(exported, source)
    verify_named(source, settings, (agent, network, env))
    if "agent" in changes or "env" in changes:
        raise FewShotError("--set may change settings of the agent, not the agent; name another environment with --env")
    verify_statistics(changes.get("agent.bn"), section(settings, "agent"))
    load_plugins()
    wanted = None if env is None else EnvPair.parse(env, data_dir_of(settings | changes))
    own = EnvPair.parse(str(settings["env"]), data_dir_of(settings | changes))
    names_own = wanted is not None and wanted.source.id == own.source.id and ":" in own.source.address
    if wanted is not None and wanted.source.id != wanted.target.id and not names_own:
        raise FewShotError(
            f"--env is {env!r}, but a test has one environment; name the one to test on, for example cub"
        )
    pair = EnvPair(own.source, (wanted or own).target)
    preset = read_preset(folder) if exported is None else str(exported["about"].get("preset", "paper"))
    plan = make_plan(_fitting(settings | changes, pair, changes) | {"env": str(pair)}, preset)
    tune(plan.run.threads)
    content = exported or checkpoint.load(folder / "best.pt", plan.device)
    tested_agent, tested, cut = _agent_for(plan, settings, folder, content, changes)
    same_tasks = not any(key.startswith("env.") and key != "env.data_dir" for key in changes)
    if same_tasks and content.get("tasks") not in (None, "", plan.make_env("train", 1).sampler.fingerprint):
        log.warning(
            f"fsl: the training data of {folder} were prepared anew since; classes of this test may be among those "
            "that it was trained on"
        )
    test_env = plan.make_env("test", plan.run.eval_batch)
    seeds = frozen_seeds("test", plan.run.test_tasks)
    with progress("testing", len(seeds), "tasks") as report:
        (scores,) = evaluate(tested_agent, test_env, seeds, lambda done: report(done, ""))
    result = build(plan, test_env, seeds, scores) | {"run": folder.name, "best_at_tasks": tested}
    result |= {"preset": plan.preset} | ({"outputs_cut": cut} if cut else {})
    if exported:
        if content["about"].get("checkpoint") != "best.pt":  # it was not chosen by validation
            result["trained_tasks"] = tested
        return result, None
    version = short_hash([result["episode_hash"], result["settings"]])
    what = "eval-" + file_name(plan.pair.target.name)
    file = folder / f"{what}-{version}.json"
    try:
        if any(map(math.isnan, scores)):
            save_diverged(RunPlace(folder, plan.settings, tested), tested_agent, test_env.sampler, what, seeds, scores)
        write_json(file, result)
    except OSError as error:
        raise FewShotError(
            f"{file} cannot be written ({error.strerror or error}); mend that, and test again"
        ) from error
    return result, file


def _settings_of(content: dict[str, Any], file: Path) -> Settings:
    """The settings of the run that a file was exported from, with those of its agent."""
    settings = dict(content.get("about", {}).get("settings") or {})
    if not settings:
        raise FewShotError(f"{file} does not say what it was trained on; test the folder of its run")
    return settings | {f"agent.{key}": value for key, value in content["trained"]["settings"].items()}


def _verify_shape(plan: Plan, content: dict[str, Any], folder: Path) -> None:
    """Raise FewShotError where the tasks' items have another shape than those that the run was trained on."""
    try:
        trained = tuple(content["trained"]["spec"]["in_shape"])
    except (KeyError, TypeError):  # of an older version
        return
    if plan.spec.in_shape != trained:
        raise FewShotError(
            f"the network of {folder} was trained on items of {_shape(trained)}, but these tasks have "
            f"{_shape(plan.spec.in_shape)}; test it on items of its shape, or train one on these"
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _fitting(settings: Settings, pair: EnvPair, changes: Settings) -> Settings:
    """The settings without those of another target's tasks, unless they are among the changes."""
    known = {f"env.{k}" for end in (pair.source, pair.target) for k in sampler_class(end.sampler).Config.model_fields}
    return {k: v for k, v in settings.items() if not k.startswith("env.") or k in known or k in changes}


def _agent_for(
    plan: Plan, settings: Settings, folder: Path, content: dict[str, Any], changes: Settings
) -> tuple[Agent, int, dict[str, str] | None]:
    """A run's best agent for the tasks of `plan`: `best_agent`, and what is said where outputs are cut.

    A network with outputs for more classes than a task has answers with those that the task has. `settings` are the
    run's own, `content` is that of its best.pt.
    """
    try:
        return *best_agent(plan, folder, ", ".join(changes) or "env", content), None
    except FewShotError:
        _verify_shape(plan, content, folder)
        if plan.spec.kind != "classification" or "env.n_way" not in changes:
            raise
        source = EnvPair(plan.pair.source, plan.pair.source)
        folder_of_data = {k: v for k, v in changes.items() if k == "env.data_dir"}
        trained = make_plan(_fitting(settings | folder_of_data, source, {}) | {"env": str(source)})
        ours, theirs = plan.spec.n_outputs, trained.spec.n_outputs
        if ours == theirs:
            raise
        if ours > theirs:
            raise FewShotError(
                f"the network of {folder} has outputs for {theirs} classes, but env.n_way is {ours}; test it at "
                f"{theirs} or fewer"
            ) from None
    as_trained = replace(plan, spec=trained.spec)
    agent, tested = best_agent(as_trained, folder, ", ".join(changes), content)
    ways, test_ways = (getattr(config, "n_way", theirs) for config in (trained.env_config, plan.target_config))
    (low, high), (least, most) = bounds(ways), bounds(test_ways)
    within = low <= least and most <= high
    return agent, tested, None if within else {"trained": in_range(ways), "tested": in_range(test_ways)}


def in_range(ways: IntRange) -> str:
    """A number or a range in words: "5", "3-10"."""
    return "-".join(str(n) for n in dict.fromkeys(bounds(ways)))


def best_agent(
    plan: Plan, folder: Path, changed: str = "the code", content: dict[str, Any] | None = None
) -> tuple[Agent, int]:
    """A plan's agent with the best weights of a run.

    Args:
        plan: the run's plan, or one with changes.
        folder: the run's.
        changed: what may be the reason why the weights do not fit, for the message.
        content: of the run's best.pt, where it was read before.

    Returns:
        The agent in eval mode, and after how many training tasks its weights were the best.

    Raises:
        FewShotError: where there are no weights, or they do not fit.
    """
    file = folder if folder.is_file() else folder / "best.pt"
    content = checkpoint.load(file, plan.device) if content is None else content
    with weights_follow():
        agent = plan.make_agent()
    try:
        agent.load_state(content["agent"])
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise FewShotError(f"the weights of {folder} do not fit what was changed ({changed})") from error
    if folder.is_file():
        return agent.eval(), int(content["about"].get("tasks_seen", 0))
    return agent.eval(), checkpoint.fitting(RunProgress, content, file).tasks_seen


def load_best(folder: Path, named: Iterable[str | None] = ()) -> Agent:
    """A run's agent with its best weights, on the CPU; custom classes must be among `named`.

    Runs of older versions, whose checkpoints do not describe the agent, need their environment and data; so do tasks
    with a TaskSpec class of their own.
    """
    settings = read_settings(folder)
    file = folder / "best.pt"
    content = checkpoint.load(file)
    trained = content.get("trained")
    without_env = isinstance(trained, dict) and trained.get("spec_class") is None
    verify_named(folder, settings | ({"env": None} if without_env else {}), named)
    if not without_env:  # the environment knows its tasks
        return best_agent(make_plan(settings), folder)[0]
    agent_registry.load_plugins()
    custom = {"network": settings["agent.network"]} if is_custom(str(settings.get("agent.network"))) else {}
    cls = agent_registry.find(settings["agent"]).load() if ":" in settings["agent"] else None
    return saved.rebuild(content, file, cls=cls, **custom)
