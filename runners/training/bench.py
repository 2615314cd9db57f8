"""`fsl bench`: how fast agents are meta-trained here, what they need, and how near that is to the machine's limit.

Every case (an agent on a workload) runs in processes of its own, on tasks drawn in memory: no data are needed. The
limit is measured in the same process and clock, before, between and after the steps: the fastest matrix product, or
convolution, that we find.
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
from agents.base import Agent, paper_settings
from agents.engine.stack import Stack
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, suggest
from fewshot_env.images import ImageSampler
from fewshot_env.rng import SPLITS
from fewshot_env.sampler import TaskSampler
from fewshot_env.settings import validate
from fewshot_env.shapes import by_shape
from fewshot_env.sine import SineSampler
from fewshot_env.store import ImageClass, ImageStore
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import memory, tune, usable_device
from runners.config.settings import Settings
from runners.distributed.process_group import ProcessGroup, free_port, join, place
from runners.training.ahead import Ahead
from runners.training.step import outer_step, sampled_seeds

PORTIONS = 4
"""The work is measured in so many portions, with the limit between them."""

WORKLOADS = {
    "sine": ("sine 5-shot, MLP 1-40-40-1", 5),
    "conv4": ("84x84, 5-way 1-shot, 15 queries per class, Conv4-64", 1),
    "conv4-5shot": ("the same, 5-shot", 5),
}


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    agent: str
    workload: str
    settings: Settings
    device: str = "cpu"
    processes: int = 1
    seconds: float = 10.0

    def make_agent(self, spec: TaskSpec) -> Agent:
        """The agent with the paper's settings for such tasks, and the given ones."""
        entry = registry.find(self.agent)
        cls, n_shot = entry.load(), WORKLOADS[self.workload][1]
        own = paper_settings(cls, spec, n_shot) | dict(entry.settings)
        config = validate(cls.Config, own | self.settings, "agent.")
        torch.manual_seed(0)
        return cls(spec, config).to(self.device).train()


@dataclass(frozen=True)
class Measurement:
    """What was measured; memory in MB, of the process (or of the GPU) with the most."""

    tasks_per_second: float
    cpu_seconds_per_task: float
    own_memory: float
    file_memory: float
    """Pages of files (images, libraries), which the system may take back."""
    memory_before: float
    """Of its own, before the first step."""
    input_share: float
    gflop_per_task: float
    limit_gflops: float
    """Of one process."""
    share_of_limit: float | None
    """Arithmetic in a second of CPU time (on a GPU, of time), of what the machine can do; None where the work was
    faster than the best limit that was measured: on a busy machine that is not the machine's."""


def verify(case: Case) -> None:
    """Raise FewShotError for an unknown workload, agent or setting, or an agent that is not meta-trained."""
    if case.workload not in WORKLOADS:
        hint = suggest(case.workload, WORKLOADS)
        raise FewShotError(f"unknown workload {case.workload!r}{hint}; known: {', '.join(WORKLOADS)}")
    usable_device(case.device)
    agent = case.make_agent(sampler_of(case.workload, 0).spec)
    if not agent.learns:
        raise FewShotError(f"{case.agent} is not meta-trained, so there is nothing to time; choose another agent")
    if case.processes > agent.config.tasks_per_step:
        raise FewShotError(f"{case.processes} processes are too many for {agent.config.tasks_per_step} tasks per step")


def measure(case: Case) -> Measurement:
    """Measure a case in new processes."""
    port = free_port()
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, spawn)) for _ in range(case.processes)]
        rows = [pool.submit(_measure, case, rank, port) for rank, pool in enumerate(pools)]
        ended, _ = wait(rows, return_when=FIRST_EXCEPTION)
        failed = [row.exception() for row in ended if row.exception()]
        if failed:
            for pool in pools:
                for process in list(pool._processes.values()):
                    process.kill()
            raise FewShotError(f"measuring {case.agent} on {case.workload} failed ({failed[0]})")
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


def _measure(case: Case, rank: int, port: int) -> Measurement:
    os.environ |= place(rank, case.processes, port)
    tune(1)
    cuda = case.device.startswith("cuda")
    group = join(case.device)
    agent = case.make_agent(sampler_of(case.workload, 0).spec)
    sampler = sampler_of(case.workload, agent.config.minibatch)
    batch = agent.config.tasks_per_step
    stack, steps = Stack([agent]), [0]
    env = FewShotVectorEnv(sampler, 1, case.device)

    ahead = Ahead(stack.agent, sampler, [0], group, 10**9)

    def step() -> None:
        seeds, task = ahead.coming(steps[0] * batch)
        outer_step(stack, env, seeds, group, task)
        steps[0] += 1

    def sample() -> None:
        seeds = sampled_seeds(0, 0, batch, group)
        for part in by_shape(sampler, seeds, agent.at_once or batch):
            env.of_size(len(part)).reset(options={"task_seed": [seeds[i] for i in part]})

    peak = memory(cuda)
    before = peak.own

    def watched() -> None:
        nonlocal peak
        step()
        peak = peak.most(memory(cuda))

    step()
    step()
    limit, count, wall, cpu = _limit(case.workload, case.device), 0, 0.0, 0.0
    for _ in range(PORTIONS):
        more, (seconds, cpu_seconds) = _repeat(watched, case.seconds / PORTIONS, group)
        count, wall, cpu = count + more, wall + seconds, cpu + cpu_seconds
        limit = max(limit, _limit(case.workload, case.device))
    for other in group.gather(peak):
        peak = peak.most(other)
    times, (sampling, _) = _repeat(sample, case.seconds / 10, group)
    gflop = _flop(step) * group.size / batch / 1e9
    cpu_all = sum(group.gather(cpu))
    group.leave()
    share = gflop * batch * count / (wall * group.size if cuda else cpu_all) / limit
    return Measurement(
        tasks_per_second=count * batch / wall,
        cpu_seconds_per_task=cpu_all / count / batch,
        own_memory=peak.own,
        file_memory=peak.file,
        memory_before=before,
        input_share=sampling / times / (wall / count),
        gflop_per_task=gflop,
        limit_gflops=limit,
        share_of_limit=share if share <= 1 else None,
    )


def _repeat(act: Callable[[], None], seconds: float, group: ProcessGroup) -> tuple[int, tuple[float, float]]:
    """Repeat for some seconds, equally often in all processes: how often, and how long by clock and by CPU."""
    start, cpu, count = time.monotonic(), time.process_time(), 0
    while True:
        act()
        count += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall = time.monotonic() - start
        if group.gather(wall)[0] > seconds:
            return count, (wall, time.process_time() - cpu)


def _limit(workload: str, device: str) -> float:
    """The fastest matrix product (for the MLP) or convolution (for Conv4) of this process, in GFLOP/s.

    In a second of CPU time, on a GPU in one of the clock, as the work is measured.
    """
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
            clock = time.process_time if device == "cpu" else time.perf_counter
            start = clock()
            act()
            if device != "cpu":
                torch.cuda.synchronize()
            best = min(best, clock() - start)
    return flop / best / 1e9


def _flop(step: Callable[[], None]) -> float:
    """Floating-point operations of a step; without our kernels, which torch cannot count."""
    with kernels.off(), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def table(rows: list[tuple[Case, Measurement]]) -> str:
    """Markdown."""
    head = [
        "agent",
        "workload",
        "tasks/s",
        "CPU s per task",
        "own MB (before)",
        "MB of files",
        "input",
        "GFLOP per task",
        "limit, GFLOP/s",
        "of the limit",
    ]
    lines: list[list[Any]] = [head, ["---"] * len(head)]
    for case, row in rows:
        lines.append(
            [
                case.agent + "".join(f" {k}={v}" for k, v in case.settings.items()),
                case.workload,
                f"{row.tasks_per_second:.3g}",
                f"{row.cpu_seconds_per_task:.3g}",
                f"{row.own_memory:.0f} ({row.memory_before:.0f})",
                f"{row.file_memory:.0f}",
                f"{row.input_share:.1%}",
                f"{row.gflop_per_task:.3g}",
                f"{row.limit_gflops:.0f}",
                "unknown" if row.share_of_limit is None else f"{row.share_of_limit:.1%}",
            ]
        )
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
