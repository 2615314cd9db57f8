"""Time of a sine task with every gradient-based agent, relative to MAML's: `python benchmarks/rules.py`.

T = 5, meta-batch 25, one thread, CPU time, medians of interleaved rounds. Once by `adapt`, `predict` and
`meta_gradient`, for all; once as the training loop does it, which for some is one native call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import typer

import agents
from agents.gradient_based import GradientBased
from fewshot_env.episode import Episode
from fewshot_env.sine import SineSampler
from runners.config.machine import tune

STEPS, BATCH = 5, 25
OTHERS = ("op-lstm", "plain-lstm")
"""Not gradient-based, with inner steps."""


def usual(agent: agents.Agent, task: Episode) -> None:
    """An outer step through the public methods."""
    adapted = agent.adapt(task.support)
    agent.outer.add(adapted, agent.predict(adapted, task.query.x), task.query.labels)
    agent.outer.finish()


def as_trained(agent: agents.Agent, task: Episode) -> None:
    """An outer step as the training loop takes it."""
    if not agent.learns_at_once:
        usual(agent, task)
        return
    agent.outer.add_at_once(task)
    agent.outer.finish()


def main(rounds: int = 9, steps: int = 5) -> None:
    """Print a Markdown table."""
    tune(1)
    sampler = SineSampler()
    task = sampler.sample(range(BATCH))
    classes = {name: agents.find(name).load() for name in agents.AGENTS}
    names = [n for n, cls in classes.items() if issubclass(cls, GradientBased) or n in OTHERS]
    made = {n: agents.make(n, sampler.spec, inner_steps=STEPS, meta_batch=BATCH).train() for n in names}
    ways: dict[str, Callable[[agents.Agent, Episode], None]] = {"usual": usual, "as trained": as_trained}
    times: dict[tuple[str, str], list[float]] = {(n, way): [] for n in names for way in ways}
    for number in range(rounds + 1):
        for name, agent in made.items():
            for way, step in ways.items():
                started = time.process_time()
                for _ in range(steps):
                    step(agent, task)
                if number:
                    times[name, way].append((time.process_time() - started) / steps / BATCH)
    print("| agent | usual, x maml | as trained, x maml | as trained, tasks per CPU second |\n|---|---|---|---|")
    for name in sorted(names, key=lambda n: statistics.median(times[n, "usual"])):
        ratios = [statistics.median(times[name, way]) / statistics.median(times["maml", way]) for way in ways]
        rate = 1 / statistics.median(times[name, "as trained"])
        print(f"| `{name}` | {ratios[0]:.2f} | {ratios[1]:.2f} | {rate:,.0f} |")


if __name__ == "__main__":
    typer.run(main)
