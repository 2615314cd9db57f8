"""`fsl run --dry-run`: the settings, the parameters, and what a run will take, by timing a little of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from agents.base import Agent
from agents.engine.stack import Stack
from runners.config.machine import Memory, memory, tune
from runners.config.plan import Plan, side_by_side
from runners.console.output import duration, wrapped
from runners.distributed.process_group import ProcessGroup
from runners.evaluation.evaluate import evaluate, frozen_seeds
from runners.training.ahead import Ahead
from runners.training.step import outer_step

SECONDS = 3.0
"""How long each of training and evaluation is timed, at least, after a first round that is not."""


def estimate(plans: Sequence[Plan], processes: int) -> tuple[dict[str, Any], str]:
    """What runs that differ in their seeds take, for JSON and in words. Nothing is written.

    Some outer steps and some batches of validation tasks are carried out and timed. Seeds that can be are trained side
    by side, as the run would; of several processes the share of the first is timed, without the exchange.
    """
    plan, group = plans[0], ProcessGroup(0, processes)
    tune(plan.run.threads)
    stacked = plans if side_by_side(plan) else plans[:1]
    rounds = len(plans) // len(stacked)
    stack = Stack([p.make_agent() for p in stacked])
    steps, step_seconds, peak = 0, 0.0, memory(plan.device.type == "cuda")
    if stack.agent.learns:
        steps, step_seconds, peak = _time(_outer_steps(stack, stacked, group), plan)
    batches, batch_seconds, then = _time(_evaluations(stack, stacked), plan)
    peak = peak.most(then)
    run, per_step = plan.run, stack.agent.config.tasks_per_step
    validations = 1 + -(-run.train_tasks // run.val_every) if stack.agent.learns else 0
    per_task = rounds * batch_seconds / run.eval_batch / processes
    seconds = {
        "training": rounds * (run.train_tasks // per_step) * step_seconds,
        "validation": validations * run.val_tasks * per_task,
        "test": run.test_tasks * per_task,
    }
    found = {
        "settings": plan.settings,
        "seeds": [p.run.seed for p in plans],
        "processes": processes,
        "parameters": _parameters(plan.make_agent()),
        "estimate": {
            "seconds": seconds | {"all": sum(seconds.values())},
            "own_memory_mb": peak.own,
            "file_memory_mb": peak.file,
            "timed": {"outer_steps": steps, "validation_batches": batches},
        },
    }
    return found, _in_words(found, plan)


def _outer_steps(stack: Stack, plans: Sequence[Plan], group: ProcessGroup) -> Callable[[int], None]:
    batch, env = stack.agent.config.tasks_per_step, plans[0].make_env("train", 1)

    ahead = Ahead(stack.agent, env.sampler, [p.run.seed for p in plans], group, 10**9)

    def step(number: int) -> None:
        stack.agent.train()
        seeds, task = ahead.coming(number * batch)
        outer_step(stack, env, seeds, ahead=task)

    return step


def _evaluations(stack: Stack, plans: Sequence[Plan]) -> Callable[[int], None]:
    size = plans[0].run.eval_batch
    split = "val" if plans[0].run.val_tasks else "test"
    env, seeds = plans[0].make_env(split, size * len(plans)), frozen_seeds(split, size)

    def evaluation(number: int) -> None:
        evaluate(stack.agent, env, seeds)

    return evaluation


def _time(act: Callable[[int], None], plan: Plan) -> tuple[int, float, Memory]:
    """How often it was done in SECONDS, the mean time that it took (a first time does not count), and the memory."""
    act(0)
    cuda = plan.device.type == "cuda"
    start, count, peak = time.monotonic(), 0, memory(cuda)
    while count == 0 or time.monotonic() - start < SECONDS:
        count += 1
        act(count)
        if cuda:
            torch.cuda.synchronize()
        peak = peak.most(memory(cuda))
    return count, (time.monotonic() - start) / count, peak


def _parameters(agent: Agent) -> dict[str, int]:
    """Numbers that are learned: by the agent's parts, and in all."""
    parts: dict[str, int] = {}
    for name, values in agent.named_parameters():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + values.numel()
    return parts | {"all": sum(parts.values())}


def _in_words(found: dict[str, Any], plan: Plan) -> str:
    lines = [f"  {key} = {json.dumps(value)}" for key, value in found["settings"].items()]
    parts, timed = dict(found["parameters"]), found["estimate"]["timed"]
    total, seconds = parts.pop("all"), found["estimate"]["seconds"]
    by_part = f" ({', '.join(f'{name} {count:,}' for name, count in parts.items())})" if len(parts) > 1 else ""
    each = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items() if name != "all" and value)
    many, processes = len(found["seeds"]), found["processes"]
    which = (f", {many} seeds" if many > 1 else "") + (f", {processes} processes" if processes > 1 else "")
    return "\n".join([
        wrapped(f"{plan.run.agent} on {plan.pair}, {plan.run.train_tasks} tasks{which}; nothing is written"),
        *lines,
        wrapped(f"learned parameters: {total:,}{by_part}"),
        wrapped(f"time: about {duration(seconds['all'])} ({each})"),
        wrapped(
            f"memory{' of each process' * (processes > 1)}: about {found['estimate']['own_memory_mb']:.0f} MB of its "
            f"own; beside it up to {found['estimate']['file_memory_mb']:.0f} MB of files (images, libraries), which "
            "the system may take back"
        ),
        wrapped(
            f"measured here and now on {timed['outer_steps']} outer steps and {timed['validation_batches']} batches of "
            "validation tasks; logs, pictures, checkpoints and other load come on top"
        ),
    ])  # fmt: skip
