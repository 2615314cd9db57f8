"""Test a finished run again, on its own or another environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners import checkpoint
from runners.evaluate import episode_hash, evaluate, frozen_seeds, summarise
from runners.machine import tune
from runners.plan import make_plan, versions
from runners.progress import progress
from runners.run_dir import read_settings, write_json
from runners.settings import Settings


def retest(folder: Path, env: str | None, changes: Settings) -> tuple[dict[str, Any], Path]:
    """Evaluate the run's best weights on frozen test episodes of `env` (default: its own target).

    changes: settings that differ from the run's. Returns the result and the file in the run's folder that
    holds it; raises FewShotError where the run has no usable weights or `env` has other spaces.
    """
    settings = read_settings(folder) | changes
    source, arrow, target = str(settings["env"]).partition("->")
    settings["env"] = f"{source}->{env or (target if arrow else source)}"
    plan = make_plan(settings)
    content = checkpoint.load(folder / "best.pt", plan.device)
    tune(plan.run.threads)
    agent = plan.make_agent()
    try:
        agent.load_state(content["agent"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise FewShotError(f"the weights of {folder} do not fit these settings; change fewer of them") from error
    test_env = plan.make_env("test", plan.run.eval_batch)
    seeds = frozen_seeds("test", plan.run.test_tasks)
    with progress("testing", len(seeds), "tasks") as report:
        scores = evaluate(agent, test_env, seeds, lambda done: report(done, ""))
    name = episode_hash(test_env, seeds)
    result = summarise(plan.spec, scores) | {
        "env": plan.pair.target.name,
        "agent": plan.run.agent,
        "run": folder.name,
        "episode_hash": name,
        "scores": [plan.spec.reported(s) for s in scores],
        "settings": plan.settings,
        "versions": versions(),
    }
    file = folder / f"eval-{plan.pair.target.name}-{name[:8]}.json"
    write_json(file, result)
    return result, file
