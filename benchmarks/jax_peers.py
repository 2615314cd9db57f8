"""Sine tasks against JAX: `python benchmarks/jax_peers.py` (to install it: `pip install -e '.[bench]'`).

JAX compiles the whole loop (jit, scan over outer steps, vmap over tasks and seeds, tasks sampled inside, optax's Adam);
ours is what `fsl run` does for a step: sampling, the outer step, its row for the log. "Without kernels" is the same in
torch (FSL_KERNELS=0). Every implementation runs on one core; times are CPU times, medians of interleaved rounds;
compilation is not counted, and reported apart. First, in float64, meta-gradients on the same tasks are asserted to be
equal.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import optax
import torch
import typer

import agents
from agents import kernels
from agents.engine.stack import Stack
from agents.gradient_based import GradientBased
from fewshot_env.sine import SineSampler
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import tune
from runners.distributed.process_group import SINGLE_PROCESS
from runners.training.ahead import Ahead
from runners.training.step import outer_step

jax.config.update("jax_enable_x64", True)  # for the first comparison; what is timed is float32

SIZES = (1, 40, 40, 1)
SUPPORT, QUERY = 5, 50
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Workload:
    """An agent on 5-shot sine; `steps` outer steps a round."""

    agent: str
    inner_steps: int
    meta_batch: int
    seeds: int
    steps: int

    @property
    def title(self) -> str:
        """A row's name."""
        seeds = f", {self.seeds} seeds at once" if self.seeds > 1 else ""
        return f"{self.agent}, second order, T = {self.inner_steps}, meta-batch {self.meta_batch}{seeds}"

    def make(self, seed: int = 0) -> GradientBased:
        """Our agent, with the same first weights at every call."""
        torch.manual_seed(seed)
        clips = {"inner_clip": None, "task_clip": None}
        agent = agents.make(
            self.agent, SineSampler().spec, inner_steps=self.inner_steps, meta_batch=self.meta_batch, **clips
        )
        assert isinstance(agent, GradientBased)
        return agent.train()


WORKLOADS = {
    "maml-25": Workload("maml", 5, 25, 1, 40),
    "maml-4": Workload("maml", 5, 4, 1, 150),
    "maml-1": Workload("maml", 1, 1, 1, 400),
    "maml-1-30-seeds": Workload("maml", 1, 1, 30, 60),
    "turtle-1": Workload("turtle", 1, 2, 1, 60),
    "turtle-5": Workload("turtle", 5, 2, 1, 12),
    "turtle-5-30-seeds": Workload("turtle", 5, 2, 30, 1),
}

Parameters = dict[str, Any]


def layers(vector: Any, sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """(W [out, in], b [out]) of every layer from one vector."""
    found, start = [], 0
    for fan_in, out in pairwise(sizes):
        middle, stop = start + out * fan_in, start + out * (fan_in + 1)
        found.append((vector[start:middle].reshape(out, fan_in), vector[middle:stop]))
        start = stop
    return found


def network(vector: Any, sizes: tuple[int, ...], x: Any) -> Any:
    """ReLU layers and a linear output, x [n, in]."""
    *hidden, (weight, bias) = layers(vector, sizes)
    for w, b in hidden:
        x = jax.nn.relu(x @ w.T + b)
    return x @ weight.T + bias


def loss(theta: Any, x: Any, y: Any) -> Any:
    """Mean squared error of the base learner."""
    return jnp.mean((network(theta, SIZES, x) - y) ** 2)


def query_loss(w: Workload, parameters: Parameters, agent: GradientBased, task: tuple[Any, ...]) -> Any:
    """Adapt to one task; the loss on its query."""
    x, y, query_x, query_y = task
    theta = parameters["theta"]
    average = None
    for step in range(w.inner_steps):
        g = jax.grad(loss)(theta, x, y)
        if w.agent == "maml":
            theta = theta - agent.config.inner_lr * g  # type: ignore[attr-defined]
            continue
        average = g if average is None else 0.9 * average + 0.1 * g
        inputs = jnp.stack([g, average, jnp.full_like(g, step)], 1)
        theta = theta + parameters["rates"] * network(parameters["network"], (3, 20, 20, 20, 20, 20, 1), inputs)[:, 0]
    return loss(theta, query_x, query_y)


def sampled(key: Any) -> tuple[Any, ...]:
    """One task: amplitude in [0.1, 5], phase in [0, pi], items in [-5, 5]."""
    a, b, c = jax.random.split(key, 3)
    amplitude = jax.random.uniform(a, minval=0.1, maxval=5.0, dtype=jnp.float32)
    phase = jax.random.uniform(b, maxval=jnp.pi, dtype=jnp.float32)
    x = jax.random.uniform(c, (SUPPORT + QUERY, 1), minval=-5.0, maxval=5.0, dtype=jnp.float32)
    y = amplitude * jnp.sin(x + phase)
    return x[:SUPPORT], y[:SUPPORT], x[SUPPORT:], y[SUPPORT:]


def of_agent(agent: GradientBased, dtype: Any) -> Parameters:
    """Our first parameters, for JAX."""
    named = {"theta": agent.initialization}
    if agent.name == "turtle":
        named |= {"rates": agent.rule.rates, "network": agent.rule.networks[0].weights}  # type: ignore[attr-defined]
    return {name: jnp.asarray(p.detach()[0].numpy(), dtype=dtype) for name, p in named.items()}


def assert_equal_gradients(w: Workload) -> float:
    """The relative difference of first meta-gradients in float64."""
    agent = w.make().double()
    task = SineSampler(n_shot=SUPPORT, n_query=QUERY).sample(range(w.meta_batch))
    for split in (task.support, task.query):
        for name in ("x", "y"):
            object.__setattr__(split, name, getattr(split, name).double())
    agent.learn_at_once(task)
    ours = torch.cat([p.grad.flatten() for p in agent.parameters() if p.grad is not None])
    arrays = tuple(jnp.asarray(t.numpy()) for t in (task.support.x, task.support.y, task.query.x, task.query.y))

    def total(parameters: Parameters) -> Any:
        return jax.vmap(lambda *one: query_loss(w, parameters, agent, one))(*arrays).sum()

    found = jax.grad(total)(of_agent(agent, jnp.float64))
    names = ["theta"] if w.agent == "maml" else ["theta", "rates", "network"]
    theirs = torch.cat([torch.from_numpy(jnp.asarray(found[n]).__array__().copy()).flatten() for n in names])
    order = {"initialization": "theta", "rule.rates": "rates", "rule.networks.0.weights": "network"}
    mine = [order[n] for n, _ in agent.named_parameters()]
    parts = dict(zip(mine, ours.split([p.numel() for p in agent.parameters()]), strict=True))
    difference = float((torch.cat([parts[n] for n in names]) - theirs).norm() / theirs.norm())
    assert difference < TOLERANCE, f"{w.title}: meta-gradients differ by {difference}"
    return difference


def jax_round(w: Workload) -> tuple[Callable[[], None], float]:
    """A round of JAX, compiled, and the seconds that this took."""
    agent, optimizer = w.make(), optax.adam(1e-3)
    one = of_agent(agent, jnp.float32)
    several = w.seeds > 1
    parameters = jax.tree.map(lambda p: jnp.stack([p] * w.seeds), one) if several else one
    state = jax.vmap(optimizer.init)(parameters) if several else optimizer.init(parameters)

    def step(carry: Any, key: Any) -> Any:
        now, moments = carry
        tasks = jax.vmap(sampled)(jax.random.split(key, w.meta_batch))

        def total(p: Parameters) -> Any:
            return jax.vmap(lambda *task: query_loss(w, p, agent, task))(*tasks).sum()

        value, gradient = jax.value_and_grad(total)(now)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(now, updates), moments), value

    inner = jax.vmap(step) if several else step

    @jax.jit
    def steps(carry: Any, key: Any) -> Any:
        keys = jax.random.split(key, (w.steps, w.seeds) if several else w.steps)
        return jax.lax.scan(inner, carry, keys)

    started = time.process_time()
    carry, _ = jax.block_until_ready(steps((parameters, state), jax.random.key(0)))
    compiled = time.process_time() - started
    kept = [carry]

    def run() -> None:
        kept[0], values = steps(kept[0], jax.random.key(1))
        jax.block_until_ready(values)

    return run, compiled


def our_round(w: Workload, native: bool) -> Callable[[], None]:
    """A round of ours."""
    sampler = SineSampler(n_shot=SUPPORT, n_query=QUERY)
    stack, env = Stack([w.make(seed) for seed in range(w.seeds)]), FewShotVectorEnv(sampler, 1)
    ahead = Ahead(stack.agent, sampler, list(range(w.seeds)), SINGLE_PROCESS, 10**9)
    seen = [0]

    def run() -> None:
        with nullcontext() if native else kernels.off():
            for _ in range(w.steps):
                seeds, task = ahead.coming(seen[0])
                outer_step(stack, env, seeds, SINGLE_PROCESS, task)
                seen[0] += w.meta_batch

    return run


def row(w: Workload, rounds: int) -> list[str]:
    """Check and time a workload."""
    difference = assert_equal_gradients(w)
    theirs, compiled = jax_round(w)
    runs = {"ours": our_round(w, True), "without kernels": our_round(w, False), "jax": theirs}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            started = time.process_time()
            run()
            if number:
                rates[name].append(w.steps * w.meta_batch * w.seeds / (time.process_time() - started))
    ratios = [a / b for a, b in zip(rates["ours"], rates["jax"], strict=True)]
    medians = [f"{statistics.median(rates[name]):,.0f}" for name in runs]
    of_all = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [w.title, *medians, of_all, f"{compiled:.0f} s", f"{difference:.0e}"]


def main(
    workload: Annotated[list[str] | None, typer.Option(help=f"one or more of: {', '.join(WORKLOADS)}")] = None,
    rounds: Annotated[int, typer.Option(help="rounds after the warm-up")] = 7,
) -> None:
    """Print a Markdown table."""
    if unknown := set(workload or ()) - set(WORKLOADS):
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; known: {', '.join(WORKLOADS)}")
    tune(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    versions = f"torch {torch.__version__}, jax {jax.__version__}"
    print(f"{versions}, one core, {rounds} rounds, load {os.getloadavg()[0]:.1f} at the start.\n")
    head = ["5-shot sine, tasks per CPU second", "ours", "without kernels", "JAX", "ours / JAX (lowest to highest)",
            "JAX compiles", "meta-gradients differ by"]  # fmt: skip
    for cells in (head, ["---"] * len(head)):
        print("| " + " | ".join(cells) + " |")
    for key in workload or WORKLOADS:
        print("| " + " | ".join(row(WORKLOADS[key], rounds)) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
