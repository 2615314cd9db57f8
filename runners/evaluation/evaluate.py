"""Evaluation on frozen episodes: a list of task seeds that is the same for every agent and run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.base import Agent
from fewshot_env.episode import Episode, TaskSpec
from fewshot_env.rng import task_seeds
from fewshot_env.shapes import by_shape
from fewshot_env.vector import FewShotVectorEnv
from runners.distributed.process_group import SINGLE_PROCESS, ProcessGroup

FROZEN_SEED = 2022
"""Seed of all validation and test episodes."""

DIVERGED_MSE = 100.0
"""A regression task with a larger error than this counts as diverged (answers lie within [-5, 5])."""


def frozen_seeds(split: str, count: int) -> list[int]:
    """The first `count` frozen task seeds of a split."""
    return task_seeds(FROZEN_SEED, split, 0, count)


def episode_hash(env: FewShotVectorEnv, seeds: list[int]) -> str:
    """Names the very episodes: the task distribution, its data and the task seeds."""
    text = json.dumps([env.sampler.fingerprint, seeds])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def evaluate(
    agent: Agent,
    env: FewShotVectorEnv,
    seeds: list[int],
    between: Callable[[int], None] = lambda done: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> list[list[float]]:
    """For each of the agent's runs (a plain agent is one), the score of every task in the order of `seeds`.

    Higher is better; a task whose predictions are not all finite scores NaN. The agent is left as it was.

    between is called before every batch with the number of tasks done; what it raises ends the evaluation. The
    processes of a group share the tasks; all get all scores.
    """
    mode, runs = agent.training, agent.runs
    agent.eval()
    at_once = min(env.num_envs // runs, -(-len(seeds) // group.size), agent.at_once or len(seeds))
    batches = by_shape(env.sampler, seeds, at_once)
    own = batches[group.rank :: group.size]
    own += batches[:1] * (-(-len(batches) // group.size) - len(own))  # every process has equally many
    parts: list[tuple[list[int], Tensor]] = []
    done = 0
    try:
        for batch in own:
            between(min(done * group.size, len(seeds)))
            done += len(batch)
            parts.append((batch, _scores(agent, env.of_size(len(batch) * runs), [seeds[i] for i in batch] * runs)))
    finally:
        agent.train(mode)
    scores = parts[0][1].new_empty(runs, len(seeds), device="cpu")
    for shares in group.gather([(batch, part.cpu()) for batch, part in parts]):
        for batch, part in shares:
            scores[:, batch] = part
    return scores.tolist()


def _scores(agent: Agent, env: FewShotVectorEnv, seeds: list[int]) -> Tensor:
    """[R, B]: each run's score of tasks of one shape."""
    obs, _ = env.reset(options={"task_seed": seeds})
    episode = Episode.from_obs(obs)
    with torch.no_grad():
        predictions = episode.restrict(agent.predict(agent.adapt(episode.support), episode.query.x))
    _, rewards, *_ = env.step(predictions)
    return rewards.where(predictions.isfinite().flatten(1).all(1), torch.nan).view(agent.runs, -1)


def summarise(spec: TaskSpec, scores: list[float]) -> dict[str, Any]:
    """Mean with its 95 % interval over tasks, median, and how many tasks diverged.

    Accuracy, or mean squared error. A task diverged where its score is not finite, or its error exceeds
    DIVERGED_MSE. The mean is over all finite scores, diverged ones included; the median counts a score that
    is not finite as the worst.
    """
    values = np.array([spec.reported(s) for s in scores])
    finite = values[np.isfinite(values)]
    diverged = len(values) - len(finite)
    if spec.kind == "regression":
        diverged += int((finite > DIVERGED_MSE).sum())
    worst = math.inf if spec.kind == "regression" else 0.0
    many = len(finite) > 1
    return {
        "metric": spec.metric,
        "mean": float(finite.mean()) if len(finite) else None,
        "ci95": float(1.96 * finite.std(ddof=1) / math.sqrt(len(finite))) if many else None,
        "median": float(np.median(np.where(np.isfinite(values), values, worst))),
        "tasks": len(values),
        "diverged": diverged,
    }


def in_words(summary: dict[str, Any]) -> str:
    """One line: "accuracy 0.312 ± 0.014 (95 % interval over 600 tasks), median 0.300"."""
    if summary["mean"] is None:
        return f"{summary['metric']}: all {summary['tasks']} tasks diverged"
    interval = (
        "" if summary["ci95"] is None else f" ± {summary['ci95']:.3f} (95 % interval over {summary['tasks']} tasks)"
    )
    diverged = f", {summary['diverged']} diverged" if summary["diverged"] else ""
    median = "not finite" if summary["median"] is None else f"{summary['median']:.3f}"
    return f"{summary['metric']} {summary['mean']:.3f}{interval}, median {median}{diverged}"
