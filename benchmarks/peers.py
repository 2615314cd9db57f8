r"""Meta-training against other libraries and plain loops: `python benchmarks/peers.py`.

MAML is timed against learn2learn, TorchOpt, higher and a plain loop of torch.autograd; TURTLE and the LSTM, which no
library has, against plain loops. Every implementation does complete outer steps (adaptation, query loss, backward,
Adam; ours also the row for the log) on the same tasks from the same weights, in one process with one thread and the
allocator settings of our runner, a few steps in every round. Times are CPU times, which with one thread equal
wall-clock time on an idle machine and vary less on a busy one. First, in float64, the first meta-gradients are
asserted to be equal. Images are random; ours are channels last in memory, as our sampler gives them, the others'
contiguous. Memory is that of a separate process that does three outer steps. A library that is not installed is
skipped. To install them:

    pip install -e '.[bench]'
    pip install learn2learn==0.2.0 --no-deps --no-build-isolation --use-pep517 \
        --config-settings=--build-option=build_ext

(Since Python 3.11 learn2learn's C sources must be generated again; its requirements would downgrade numpy.)
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
import typer
from libraries import Higher, Learn2Learn, TorchOpt, TorchOptFunctional
from plain import PlainLSTM, PlainMAML, PlainTurtle
from torch import Tensor

import agents
from agents.engine.stack import Stack
from agents.gradient_based import GradientBased
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.rng import task_seeds
from fewshot_env.sine import SineSampler
from runners.config.machine import tune

MINI = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
TOLERANCE = 1e-9  # of the first meta-gradients in float64
INSTALL = "install it as the first lines of benchmarks/peers.py say"


@dataclass(frozen=True)
class Workload:
    """An agent and its tasks; a round is `steps` outer steps."""

    title: str
    agent: str
    settings: dict[str, Any]
    meta_batch: int
    n_shot: int
    steps: int
    images: bool
    seeds: int = 1
    """Runs of ours side by side; the plain loop trains one."""

    def make_agent(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> GradientBased:
        """Our agent, with the same first weights at every call."""
        torch.manual_seed(seed)
        spec = MINI if self.images else SineSampler().spec
        return agents.make(self.agent, spec, n_shot=self.n_shot, **self.settings).to(dtype).train()

    def episodes(self, count: int, meta_batch: int) -> list[Episode]:
        """Tasks for `count` outer steps; the same at every call."""
        if self.images:
            g = torch.Generator().manual_seed(1)
            return [Episode(images(meta_batch, self.n_shot, g), images(meta_batch, 15, g)) for _ in range(count)]
        sampler = SineSampler(n_shot=self.n_shot)
        return [sampler.sample(task_seeds(0, "train", i * meta_batch, meta_batch)) for i in range(count)]


def images(tasks: int, per_class: int, generator: torch.Generator) -> Split:
    """Random images [B, 5 per_class, 3, 84, 84], channels last in memory, with their labels."""
    items = 5 * per_class
    x = torch.rand(tasks, items, 84, 84, 3, generator=generator).permute(0, 1, 4, 2, 3)
    return Split(x, torch.arange(items).remainder(5).expand(tasks, -1).contiguous())


def sine(title: str, agent: str, meta_batch: int, seeds: int = 1, **settings: Any) -> Workload:
    """5-shot sine with the MLP 1-40-40-1."""
    title = f"Sine 5-shot, {title}, meta-batch {meta_batch}"
    return Workload(title, agent, settings, meta_batch, 5, 10 if seeds == 1 else 2, False, seeds)


def conv4(title: str, agent: str, n_shot: int, **settings: Any) -> Workload:
    """5-way images of 84x84 with Conv4-64, two tasks per outer step."""
    return Workload(f"Conv4-64, 84x84, 5-way {n_shot}-shot, {title}, meta-batch 2", agent, settings, 2, n_shot, 1, True)


MAML = {"inner_clip": None, "task_clip": None, "inner_lr": 0.01}
WORKLOADS = {
    "sine-maml": sine("MAML, T = 5", "maml", 25, inner_steps=5, **MAML),
    "sine-maml-small": sine("MAML, T = 5", "maml", 4, inner_steps=5, **MAML),
    "sine-maml-t1": sine("MAML, T = 1", "maml", 25, inner_steps=1, **MAML),
    "sine-turtle": sine("TURTLE, T = 5", "turtle", 2, inner_steps=5),
    "sine-turtle-30-seeds": sine("TURTLE, T = 5, 30 seeds of ours", "turtle", 2, seeds=30, inner_steps=5),
    "sine-lstm-30-seeds": sine("LSTM, first order, T = 5, 30 seeds of ours", "lstm", 1, seeds=30, inner_steps=5),
    "sine-lstm": sine("LSTM, first order, T = 5", "lstm", 1, inner_steps=5),
    "conv4-maml": conv4("MAML, T = 5", "maml", 1, inner_steps=5, **MAML),
    "conv4-maml-5shot": conv4("MAML, T = 5", "maml", 5, inner_steps=5, **MAML),
    "conv4-fo-maml": conv4("MAML, first order, T = 5", "fo-maml", 1, inner_steps=5, **MAML),
    "conv4-turtle": conv4("TURTLE, T = 5", "turtle", 1, inner_steps=5),
}


class Implementation(Protocol):
    """An implementation that is timed."""

    def step(self, episode: Episode) -> None:
        """One outer step on B tasks."""
        ...

    def gradient(self) -> Tensor:
        """The last meta-gradient as one vector."""
        ...


def _add(agent: GradientBased, task: Episode) -> None:
    """The meta-gradient of one part, as runners.training.step adds it."""
    if agent.learns_at_once:
        agent.outer.add_at_once(task)
        return
    adapted = agent.adapt(task.support)
    agent.outer.add(adapted, agent.predict(adapted, task.query.x), task.query.labels)


class Ours:
    """An agent of ours through its public methods."""

    def __init__(self, agent: GradientBased) -> None:
        self.agent, self.optimizer = agent, agent.outer.optimizer  # made here, as those of the others are

    def step(self, episode: Episode) -> None:
        """One outer step on B tasks, in the parts that are fastest to compute."""
        for part in self.agent.net.chunks(episode.support.x):
            _add(self.agent, Episode(episode.support[part], episode.query[part]))
        (row,) = self.agent.outer.finish()
        assert not row["skipped"], "the meta-gradient is not finite"

    def gradient(self) -> Tensor:
        """The last meta-gradient as one vector."""
        return torch.cat([p.grad.flatten() for p in self.agent.parameters() if p.grad is not None])


class OursStacked:
    """Many runs of ours side by side; the gradient is the first run's."""

    def __init__(self, agents: list[GradientBased]) -> None:
        self.stack = Stack(agents)
        self.optimizer = self.stack.agent.outer.optimizer

    def step(self, episode: Episode) -> None:
        """One outer step of every run on B tasks, the same for all."""
        runs = self.stack.runs
        x, y, query_x, query_y = (
            t.repeat(runs, *[1] * (t.dim() - 1))
            for t in (episode.support.x, episode.support.labels, episode.query.x, episode.query.labels)
        )
        _add(self.stack.agent, Episode(Split(x, y), Split(query_x, query_y)))
        self.stack.finish_step()

    def gradient(self) -> Tensor:
        """The first run's last meta-gradient as one vector."""
        return torch.cat([p.grad[0].flatten() for p in self.stack.agent.parameters() if p.grad is not None])


def make(name: str, workload: Workload, dtype: torch.dtype = torch.float32) -> Implementation:
    """An implementation with the initial weights of the workload."""
    if name == "ours" and workload.seeds > 1:
        return OursStacked([workload.make_agent(dtype, seed) for seed in range(workload.seeds)])
    return implementations(workload.agent)[name](workload.make_agent(dtype))


def implementations(agent: str) -> dict[str, Callable[[GradientBased], Implementation]]:
    """Implementations of `agent`, by name, including libraries that cannot be imported."""
    if not agent.endswith("maml"):
        return {"ours": Ours, "plain loop": {"turtle": PlainTurtle, "lstm": PlainLSTM}[agent]}
    torchopt = TorchOptFunctional if agent == "fo-maml" else TorchOpt
    return {"ours": Ours, "learn2learn": Learn2Learn, "torchopt": torchopt, "higher": Higher, "plain loop": PlainMAML}


def quiet() -> redirect_stderr[StringIO]:
    """Hide what gym, which learn2learn imports, prints on stderr."""
    return redirect_stderr(StringIO())


def skipped() -> set[str]:
    """The libraries that cannot be imported, with a line on stderr for each."""
    missing = set()
    for name in ("learn2learn", "torchopt", "higher"):
        try:
            with quiet():
                import_module(name)
        except Exception as error:  # an unmaintained library may raise anything; the others go on
            print(f"{name} is skipped ({type(error).__name__}: {error}); {INSTALL}", file=sys.stderr)
            missing.add(name)
    return missing


def tasks_for(name: str, episode: Episode, dtype: torch.dtype = torch.float32) -> Episode:
    """Tasks as the implementation `name` takes them: contiguous for all but ours."""

    def split(s: Split) -> Split:
        x, y = s.x.to(dtype), s.labels
        return Split(x if name == "ours" else x.contiguous(), y if y.dtype == torch.int64 else y.to(dtype))

    return Episode(split(episode.support), split(episode.query))


def differences(workload: Workload, names: list[str]) -> dict[str, float]:
    """Relative differences of first meta-gradients from ours, in float64; asserts that they are tiny."""
    (episode,) = workload.episodes(1, 1 if workload.images else workload.meta_batch)
    gradients = {}
    for name in names:
        implementation = make(name, workload, torch.float64)
        implementation.step(tasks_for(name, episode, torch.float64))
        gradients[name] = implementation.gradient()
    ours = gradients["ours"]
    found = {name: float((g - ours).norm() / ours.norm()) for name, g in gradients.items()}
    assert all(d < TOLERANCE for d in found.values()), f"{workload.title}: meta-gradients differ: {found}"
    return found


def rates(workload: Workload, names: list[str], rounds: int, steps: int) -> dict[str, list[float]]:
    """Tasks per second of CPU time in every round, after a warm-up round."""
    made = {name: make(name, workload) for name in names}
    episodes = workload.episodes(steps, workload.meta_batch)
    tasks = {name: [tasks_for(name, e) for e in episodes] for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            start = time.process_time()
            for episode in tasks[name]:
                made[name].step(episode)
            if number:
                tasks_done = steps * workload.meta_batch * (workload.seeds if name == "ours" else 1)
                found[name].append(tasks_done / (time.process_time() - start))
    return found


def memory(key: str, name: str, steps: int) -> tuple[float, float]:
    """Resident MB of this process before the first outer step, and the peak. Run in a new process."""
    tune(1)
    w = WORKLOADS[key]
    with quiet():
        implementation = implementations(w.agent)[name](w.make_agent())
    episode = tasks_for(name, w.episodes(1, w.meta_batch)[0])
    before = resident("VmRSS")
    for _ in range(steps):
        implementation.step(episode)
    return before, resident("VmHWM")


def resident(field: str) -> float:
    """Memory of this process in MB; getrusage's ru_maxrss starts with the parent's value."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def table(key: str, names: list[str], rounds: int, quick: bool) -> str:
    """Check and time a workload; returns its Markdown table."""
    workload = WORKLOADS[key]
    differs = differences(workload, names)
    speed = rates(workload, names, rounds, 1 if quick else workload.steps)
    head = ["", "tasks per CPU second", "ours / this (lowest to highest round)", "meta-gradient differs by"]
    rows = []
    for name in names:
        ratios = [a / b for a, b in zip(speed["ours"], speed[name], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append([name, f"{statistics.median(speed[name]):.4g}", ratio, f"{differs[name]:.0e}"])
    rows[0][2:] = ["", ""]
    if workload.images:
        head += ["peak, MB", "of these before the first step"]
        spawn = multiprocessing.get_context("spawn")
        for row in rows:
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                before, peak = process.submit(memory, key, row[0], 1 if quick else 3).result()
            row += [f"{peak:.0f}", f"{before:.0f}"]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join([f"### {workload.title}", "", *lines, ""])


def main(
    workload: Annotated[list[str] | None, typer.Option(help=f"one or more of: {', '.join(WORKLOADS)}")] = None,
    rounds: Annotated[int, typer.Option(help="rounds after the warm-up")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="one round of one step: does everything work?")] = False,
) -> None:
    """Print a Markdown table for every workload."""
    keys = workload or list(WORKLOADS)
    if unknown := set(keys) - set(WORKLOADS):
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; known: {', '.join(WORKLOADS)}")
    tune(1)
    missing, rounds = skipped(), 1 if quick else rounds
    print(f"torch {torch.__version__}, one thread, {rounds} rounds, load {os.getloadavg()[0]:.1f} at the start.\n")
    for key in keys:
        names = [name for name in implementations(WORKLOADS[key].agent) if name not in missing]
        print(table(key, names, rounds, quick), flush=True)


if __name__ == "__main__":
    typer.run(main)
