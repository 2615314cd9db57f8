"""`fsl bench`: how fast agents are meta-trained here, what they need, and how near that is to the machine's limit.

Every cell (an agent on a workload) runs in processes of its own, on tasks drawn in memory: no data are needed. The
limit is measured in the same process, right before: the fastest matrix product, or convolution, that we find.
Arithmetic is counted on one outer step by torch's FlopCounterMode: matrix products and convolutions of our design.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from agents import kernels, registry
from agents.base import Agent
from agents.engine.stack import Stack
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, suggest
from fewshot_env.images import ImageSampler
from fewshot_env.rng import SPLITS
from fewshot_env.sampler import TaskSampler
from fewshot_env.shapes import by_shape
from fewshot_env.sine import SineSampler
from fewshot_env.store import ImageClass, ImageStore
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import peak_memory, tune, usable_device
from runners.config.settings import Settings, validate
from runners.distributed import process_group as team
from runners.training.step import dealt_seeds, outer_step

WORKLOADS = {
    "sine": ("sine 5-shot, MLP 1-40-40-1", 5),
    "conv4": ("84x84, 5-way 1-shot, 15 queries per class, Conv4-64", 1),
    "conv4-5shot": ("the same, 5-shot", 5),
}


@dataclass(frozen=True)
class Cell:
    """What one process measures."""

    agent: str
    workload: str
    settings: Settings
    device: str = "cpu"
    processes: int = 1
    seconds: float = 10.0

    def make_agent(self, spec: TaskSpec) -> Agent:
        """The agent with the paper's settings for such tasks, and the given ones."""
        found = registry.find(self.agent)
        cls, n_shot = found.load(), WORKLOADS[self.workload][1]
        config = validate(cls.Config, cls.Config.paper(spec, n_shot) | dict(found.settings) | self.settings, "agent.")
        torch.manual_seed(0)
        return cls(spec, config).to(self.device).train()


@dataclass(frozen=True)
class Row:
    """What was found; memory in MB, of the process (or of the GPU) with the most."""

    tasks_per_second: float
    cpu_seconds_per_task: float
    peak_memory: float
    memory_before: float
    input_share: float
    gflop_per_task: float
    limit_gflops: float
    """Of one process."""
    share_of_limit: float
    """Arithmetic in a second of CPU time (on a GPU, of time), of what the machine can do."""


def check(cell: Cell) -> None:
    """Raise FewShotError for an unknown workload, agent or setting, or an agent that is not meta-trained."""
    if cell.workload not in WORKLOADS:
        hint = suggest(cell.workload, WORKLOADS)
        raise FewShotError(f"unknown workload {cell.workload!r}{hint}; known: {', '.join(WORKLOADS)}")
    usable_device(cell.device)
    agent = cell.make_agent(sampler_of(cell.workload, 0).spec)
    if not agent.learns:
        raise FewShotError(f"{cell.agent} is not meta-trained, so there is nothing to time; choose another agent")
    if cell.processes > agent.config.tasks_per_step:
        raise FewShotError(f"{cell.processes} processes are too many for {agent.config.tasks_per_step} tasks per step")


def measure(cell: Cell) -> Row:
    """Measure a cell in new processes."""
    port = team.free_port()
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, spawn)) for _ in range(cell.processes)]
        rows = [pool.submit(_measure, cell, rank, port) for rank, pool in enumerate(pools)]
        ended, _ = wait(rows, return_when=FIRST_EXCEPTION)
        failed = [row.exception() for row in ended if row.exception()]
        if failed:
            for pool in pools:
                for process in list(pool._processes.values()):
                    process.kill()
            raise FewShotError(f"measuring {cell.agent} on {cell.workload} failed ({failed[0]})")
        return rows[0].result()


def sampler_of(workload: str, minibatch: int) -> TaskSampler:
    """Tasks drawn in memory; images are noise."""
    if workload == "sine":
        return SineSampler(minibatch=minibatch)
    pixels = np.random.default_rng(0).integers(0, 256, (3 * 20 * 30, 84, 84, 3), dtype=np.uint8)
    starts = [(split, 30 * (20 * s + k)) for s, split in enumerate(SPLITS) for k in range(20)]
    classes = tuple(ImageClass(f"class{start}", split, start, 30) for split, start in starts)
    store = ImageStore(Path("memory"), "noise", pixels, classes, {"sha256": "0" * 64})
    return ImageSampler(store, n_shot=WORKLOADS[workload][1], n_query=15, minibatch=minibatch)


def _measure(cell: Cell, rank: int, port: int) -> Row:
    os.environ |= team.place(rank, cell.processes, port)
    tune(1)
    cuda = cell.device.startswith("cuda")
    us = team.join(cell.device)
    agent = cell.make_agent(sampler_of(cell.workload, 0).spec)
    sampler = sampler_of(cell.workload, agent.config.minibatch)
    agent.reduce = us.sum
    batch = agent.config.tasks_per_step
    stack, steps = Stack([agent]), [0]
    env = FewShotVectorEnv(sampler, 1, cell.device)

    def step() -> None:
        outer_step(stack, env, [dealt_seeds(0, steps[0] * batch, batch, us)])
        steps[0] += 1

    def deal() -> None:
        seeds = dealt_seeds(0, 0, batch, us)
        for part in by_shape(sampler, seeds, agent.at_once or batch):
            env.of_size(len(part)).reset(options={"task_seed": [seeds[i] for i in part]})

    limit = _limit(cell.workload, cell.device)
    before = peak_memory(cuda)
    step()
    step()
    count, (wall, cpu) = _repeat(step, cell.seconds, us)
    peak = max(us.gather(peak_memory(cuda)))
    times, (dealing, _) = _repeat(deal, cell.seconds / 10, us)
    gflop = _flop(step) * us.size / batch / 1e9
    cpu_all = sum(us.gather(cpu))
    us.leave()
    return Row(
        tasks_per_second=count * batch / wall,
        cpu_seconds_per_task=cpu_all / count / batch,
        peak_memory=peak,
        memory_before=before,
        input_share=dealing / times / (wall / count),
        gflop_per_task=gflop,
        limit_gflops=limit,
        share_of_limit=gflop * batch * count / (wall * us.size if cuda else cpu_all) / limit,
    )


def _repeat(act: Callable[[], None], seconds: float, us: team.Team) -> tuple[int, tuple[float, float]]:
    """Repeat for some seconds, equally often in all processes: how often, and how long by clock and by CPU."""
    start, cpu, count = time.monotonic(), time.process_time(), 0
    while True:
        act()
        count += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall = time.monotonic() - start
        if us.gather(wall)[0] > seconds:
            return count, (wall, time.process_time() - cpu)


def _limit(workload: str, device: str) -> float:
    """The fastest matrix product (for the MLP) or convolution (for Conv4) of this process, in GFLOP/s."""
    a = torch.randn(1024, 1024, device=device)
    h = torch.randn(75, 64, 41, 41, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3, device=device)

    def act() -> None:
        if workload == "sine":
            torch.mm(a, a)
        else:
            nn.functional.conv2d(h, kernel)

    flop = 2 * 1024**3 if workload == "sine" else 2 * 75 * 39 * 39 * 64 * 64 * 9
    best = float("inf")
    with torch.no_grad():
        for _ in range(10):
            start = time.perf_counter()
            act()
            if device != "cpu":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return flop / best / 1e9


def _flop(step: Callable[[], None]) -> float:
    """Floating-point operations of a step; without our kernels, which torch can not count."""
    with kernels.off(), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def table(rows: list[tuple[Cell, Row]]) -> str:
    """Markdown."""
    head = [
        "agent",
        "workload",
        "tasks/s",
        "CPU s per task",
        "peak MB (before)",
        "input",
        "GFLOP per task",
        "limit, GFLOP/s",
        "of the limit",
    ]
    lines: list[list[Any]] = [head, ["---"] * len(head)]
    for cell, row in rows:
        lines.append(
            [
                cell.agent + "".join(f" {k}={v}" for k, v in cell.settings.items()),
                cell.workload,
                f"{row.tasks_per_second:.3g}",
                f"{row.cpu_seconds_per_task:.3g}",
                f"{row.peak_memory:.0f} ({row.memory_before:.0f})",
                f"{row.input_share:.1%}",
                f"{row.gflop_per_task:.3g}",
                f"{row.limit_gflops:.0f}",
                f"{row.share_of_limit:.1%}",
            ]
        )
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
