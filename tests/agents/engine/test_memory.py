"""Meta-training memory is flat: 500 updates after a warm-up add at most 2 %."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.agents import batch_of_tasks, make_agent
from tests.helpers.cli import ROOT

CODE = """
import sys, torch, agents
from fewshot_env.episode import Episode
from fewshot_env.sine import SineSampler
from runners.config.machine import tune
from tests.helpers.agents import IMAGES, SINE, batch_of_tasks
tune(1)
name, kind = sys.argv[1:]
settings = {"filters": 4, "padding": 1, "inner_steps": 2}
agent = agents.make(name, SINE if kind == "sine" else IMAGES, **settings).train()
def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages
def update(i):
    task = batch_of_tasks(agent.spec, seed=i) if kind == "images" else SineSampler().sample([2 * i, 2 * i + 1])
    agent.inspect(adapted := agent.adapt(task.support))
    agent.meta_update(agent.predict(adapted, task.query.x), task.query.y)
for i in range(100):
    update(i)
before = resident()
for i in range(500):
    update(i)
print(resident() / before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "kind"), [("maml", "sine"), ("turtle", "sine"), ("lstm", "sine"), ("maml", "images"), ("turtle", "images")]
)
def test_memory_is_flat(name, kind):
    words = [sys.executable, "-W", "ignore", "-c", CODE, name, kind]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.02


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize(
    ("name", "weights_a_step"),
    [
        ("maml", 1),  # the weights themselves
        ("turtle", 6),  # and the moving average, the meta-network's three inputs, its proposal
        ("lstm-enhanced", 2 * 20 + 6),  # and hidden and cell state of 20 units, two gates, the gradient
    ],
)
def test_an_inner_step_costs_weights_and_the_rules_state(name, weights_a_step, kind, monkeypatch):
    """What autograd holds grows with T by that alone: no graph of an inner gradient is kept."""
    monkeypatch.setattr("agents.kernels.coordinates.RECOMPUTE_ABOVE", 0)
    held = []
    for steps in (3, 7):
        agent, sizes = make_agent(name, kind, inner_steps=steps, inner_clip=None, task_clip=None), {}
        task = batch_of_tasks(agent.spec)
        keep = torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.update({t.data_ptr(): t.numel()}) or t, lambda t: t
        )
        with keep:
            adapted = agent.adapt(task.support)
        held.append(sum(sizes.values()))
        del adapted
    tasks_weights = 2 * agent.net.n_params
    assert held[1] > held[0]
    assert (held[1] - held[0]) / 4 <= (weights_a_step + 0.5) * tasks_weights + 2000
