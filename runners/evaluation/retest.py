"""Test a finished run again, on its own or another environment."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from agents.base import Agent
from fewshot_env.errors import FewShotError
from fewshot_env.pair import EnvPair
from runners.config.machine import tune
from runners.config.plan import Plan, load_plugins, make_plan, stores_of
from runners.config.settings import Settings
from runners.console.progress import progress
from runners.evaluation.evaluate import evaluate, frozen_seeds
from runners.evaluation.non_finite import Place, save_diverged
from runners.evaluation.result import build, short_hash
from runners.storage import checkpoint
from runners.storage.run_folder import write_json
from runners.storage.schemas import read_settings
from runners.training.run_state import Progress


def retest(folder: Path, env: str | None, changes: Settings) -> tuple[dict[str, Any], Path]:
    """Evaluate the run's best weights on frozen test episodes of `env` (default: its own target).

    changes: settings that differ from the run's. Returns the result and the file in the run's folder that
    holds it; raises FewShotError where the run has no usable weights or `env` has other spaces.
    """
    settings = read_settings(folder)
    if "agent" in changes or "env" in changes:
        raise FewShotError("--set may change settings of the agent, not the agent; name another environment with --env")
    if changes.get("agent.bn", settings.get("agent.bn")) == "running" != settings.get("agent.bn"):
        raise FewShotError("agent.bn=running needs running statistics, which this run did not gather; train with it")
    load_plugins()
    if env is not None and (len(re.split("->|→", env)) > 1 or (":" in env and "/" not in env)):
        raise FewShotError(
            f"--env is {env!r}, but a test has one environment; name the one to test on, for example cub"
        )
    own = EnvPair.parse(str(settings["env"]), stores_of(settings | changes))
    settings |= changes | {"env": f"{own.source.address}->{env or own.target.address}"}
    plan = make_plan(settings)
    tune(plan.run.threads)
    agent, tested = best_agent(plan, folder, ", ".join(changes) or "env")
    test_env = plan.make_env("test", plan.run.eval_batch)
    seeds = frozen_seeds("test", plan.run.test_tasks)
    with progress("testing", len(seeds), "tasks") as report:
        (scores,) = evaluate(agent, test_env, seeds, lambda done: report(done, ""))
    result = build(plan, test_env, seeds, scores) | {"run": folder.name, "best_at_tasks": tested}
    told_apart = short_hash([result["episode_hash"], result["settings"]])
    what = f"eval-{plan.pair.target.name}"
    file = folder / f"{what}-{told_apart}.json"
    try:
        if any(map(math.isnan, scores)):
            save_diverged(Place(folder, plan.settings, tested), agent, test_env.sampler, what, seeds, scores)
        write_json(file, result)
    except OSError as error:
        raise FewShotError(
            f"{file} can not be written ({error.strerror or error}); mend that, and test again"
        ) from error
    return result, file


def best_agent(plan: Plan, folder: Path, changed: str = "the code") -> tuple[Agent, int]:
    """The plan's agent with the best weights of the run in `folder`, in eval mode, and after how many tasks they were.

    changed: what may be why they do not fit, for the FewShotError that says so.
    """
    file = folder / "best.pt"
    content = checkpoint.load(file, plan.device)
    agent = plan.make_agent()
    try:
        agent.load_state(content["agent"])
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise FewShotError(f"the weights of {folder} do not fit what was changed ({changed})") from error
    return agent.eval(), checkpoint.fitting(Progress, content, file).tasks_seen
