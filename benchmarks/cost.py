"""What reproducing the paper costs on one core: `python benchmarks/cost.py [sine|images]` prints a table.

Measures the CPU time of a training task and of an evaluation task for every kind of run (images are noise of the
right size, no data are needed), and multiplies it with the numbers of tasks, validations, tests and seeds of
`fsl reproduce all --scale full`. Measure on an idle machine: on a busy one CPU times are up to 1.5 times as long.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from agents.engine.stack import Stack
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import device_name, tune
from runners.config.settings import section
from runners.distributed.process_group import SINGLE_PROCESS
from runners.evaluation.evaluate import evaluate, frozen_seeds
from runners.reproduce.fig3 import GRADIENT_ONLY
from runners.reproduce.shared import AGENTS
from runners.training.ahead import Ahead
from runners.training.bench import Case, sampler_of
from runners.training.step import outer_step

AT_LEAST = 1.0
"""Least CPU time of a measurement, in seconds."""

HEAD = ("part of the paper", "runs", "CPU s, training task", "CPU s, evaluation task", "CPU hours in all")


def cpu_seconds(act: Callable[[], None], at_least: float) -> float:
    """CPU seconds of one call, after a warm-up call."""
    act()
    start, count = time.process_time(), 0
    while count == 0 or time.process_time() - start < at_least:
        act()
        count += 1
    return (time.process_time() - start) / count


def rates(agent: str, workload: str, settings: dict[str, Any], runs: int, at_least: float) -> tuple[float, float]:
    """CPU seconds of a training task and of an evaluation task, per run, with `runs` side by side."""
    case = Case(agent, workload, settings)
    stack = Stack([case.make_agent(sampler_of(workload, 0).spec) for _ in range(runs)])
    sampler = sampler_of(workload, stack.agent.config.minibatch)
    batch = stack.agent.config.tasks_per_step
    train, taken = FewShotVectorEnv(sampler, 1, "cpu"), [0]
    ahead = Ahead(stack.agent, sampler, list(range(runs)), SINGLE_PROCESS, 10**9)
    stack.agent.train()

    def step() -> None:
        seeds, task = ahead.coming(taken[0] * batch)
        outer_step(stack, train, seeds, ahead=task)
        taken[0] += 1

    at_once = 2 if workload != "sine" else 100
    test = FewShotVectorEnv(sampler_of(workload, 0), at_once * runs, "cpu")
    learning = cpu_seconds(step, at_least) / batch / runs if stack.agent.learns else 0.0
    return learning, cpu_seconds(
        lambda: void(evaluate(stack.agent, test, frozen_seeds("test", at_once))), at_least
    ) / at_once / runs


def void(value: object) -> None:
    """Discard a value."""


def hours(rate: tuple[float, float], runs: int, tasks: int, val: int, test: int) -> float:
    """Hours of CPU time, with validations before the first task and every 2,500."""
    training, evaluation = rate
    validations = tasks // 2500 + 1 if training else 0
    return runs * (tasks * training + (validations * val + test) * evaluation) / 3600


def images(at_least: float) -> Sequence[tuple[str, int, tuple[float, float], float]]:
    """Tables 1 and 2: two data sets, five seeds; every run is tested on both data sets."""
    rows = []
    for shots, workload, tasks in ((1, "conv4", 60_000), (5, "conv4-5shot", 40_000)):
        for row, agent in AGENTS.items():
            rate = rates(agent, workload, {}, 1, at_least)
            rows.append((f"Tables 1 and 2: {row}, {shots}-shot", 10, rate, hours(rate, 10, tasks, 600, 1200)))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def sine(at_least: float) -> Sequence[tuple[str, int, tuple[float, float], float]]:
    """Figures 3 and 4: thirty seeds side by side."""
    kinds = [(f"Fig. 4: {row}", AGENTS[row], 1, {}) for row in ("MAML", "Meta-learner LSTM", "TURTLE")]
    for steps in (1, 5, 10):
        fixed = {"agent.inner_steps": steps}
        kinds += [(f"Fig. 3: {row}, T = {steps}", AGENTS[row], 1, fixed) for row in ("FO-MAML", "MAML")]
        middle = fixed | GRADIENT_ONLY | {"agent.hidden_layers": 4}  # stands for six cells; costs slightly more
        kinds += [
            (f"Fig. 3: {row}, T = {steps}, six depths (at the cost of 4 layers)", AGENTS[row], 6, middle)
            for row in ("First-order TURTLE", "TURTLE")
        ]
    rows = []
    for name, agent, cells, settings in kinds:
        rate = rates(agent, "sine", section(settings, "agent"), 30, at_least)
        rows.append((name, 30 * cells, rate, hours(rate, 30 * cells, 70_000, 1000, 2000)))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def rounded(total: float) -> str:
    """Hours with two digits, or to the full hour."""
    return f"{total:.2g}" if total < 10 else f"{total:,.0f}"


def main() -> None:
    """Measure and print."""
    tune(1)
    import torch

    parts = {"sine": sine, "images": images}
    chosen = sys.argv[1:] or list(parts)
    if not set(chosen) <= set(parts):
        sys.exit("name parts of the paper: sine, images, or nothing for both")
    rows = [row for name in chosen for row in parts[name](AT_LEAST)]
    print(f"One core of: {device_name(torch.device('cpu'))}\n")
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for name, runs, (training, evaluation), total in rows:
        print(f"| {name} | {runs} | {training:.3g} | {evaluation:.3g} | {rounded(total)} |")
    print(f"| all | {sum(r[1] for r in rows)} | | | {rounded(sum(r[3] for r in rows))} |")


if __name__ == "__main__":
    main()
