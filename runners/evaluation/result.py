"""The result of a test as plain JSON: scores, episodes, settings, versions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fewshot_env.vector import FewShotVectorEnv
from runners.config.plan import Plan, versions
from runners.evaluation.evaluate import episode_hash, summarise


def build(plan: Plan, env: FewShotVectorEnv, seeds: list[int], scores: list[float]) -> dict[str, Any]:
    """What `fsl run` and `fsl eval` write; a score or median that is not finite is null."""
    result = summarise(plan.spec, scores) | {
        "env": str(plan.pair),
        "agent": plan.run.agent,
        "bn": getattr(plan.agent_config, "bn", None),
        "episode_hash": episode_hash(env, seeds),
        "scores": [finite(plan.spec.reported(score)) for score in scores],
        "settings": plan.settings,
        "versions": versions(),
    }
    return result | {"median": finite(result["median"])}


def remarks(results: Sequence[Mapping[str, Any]]) -> str:
    """What must be known of a result besides its numbers, each after a semicolon; results differ in their seeds."""
    first, said = results[0], []
    trained = first["settings"]["train_tasks"]
    best = [r["best_at_tasks"] for r in results]
    of_none = best.count(0) if trained else 0
    if of_none:
        runs = "" if len(results) == 1 else f" in {of_none} of {len(results)} runs"
        said.append(
            f"tested the weights after 0 of {trained} tasks{runs}: validation was not clearly better after training"
        )
    elif trained and first["settings"].get("val_tasks") == 0:
        said.append(f"tested the last weights, after {first['best_at_tasks']} tasks: there was no validation")
    elif min(best) < trained - trained % (first["settings"].get("agent.meta_batch") or 1):
        when = " to ".join(str(n) for n in dict.fromkeys((min(best), max(best))))
        said.append(f"tested the weights after {when} of {trained} tasks, the best in validation")
    if outputs := first.get("outputs_cut"):
        said.append(f"trained for {outputs['trained']} ways, tested at {outputs['tested']}: surplus outputs were cut")
    if first.get("preset") == "quick":
        said.append("quick preset: a first look, not the paper's number of tasks")
    return "".join(f"; {each}" for each in said)


def numbers(result: dict[str, Any], prefix: str) -> dict[str, float]:
    """The result's numbers as a row for the loggers: "test/accuracy", "test/ci95", "test/low", "test/high", ..."""
    named = {result["metric"]: result["mean"], **{n: result[n] for n in ("ci95", "median", "diverged")}}
    if result["ci95"] is not None:
        named |= {"low": result["mean"] - result["ci95"], "high": result["mean"] + result["ci95"]}
    return {f"{prefix}/{name}": value for name, value in named.items() if value is not None and math.isfinite(value)}


def finite(value: float) -> float | None:
    """The value, or None (null in JSON) where it is not finite."""
    return value if math.isfinite(value) else None


def short_hash(content: Any) -> str:
    """A short hash of JSON content: eight characters."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
