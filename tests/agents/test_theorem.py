"""Theorem 1: the LSTM contains MAML; and so does TURTLE."""

import math

import pytest
import torch

from agents.networks import unpack
from tests.helpers.agents import agent_meta_loss, batch_of_tasks, gradients, make_agent

pytestmark = pytest.mark.usefixtures("float64")
ALPHA = 0.05


def trajectory(agent, episode):
    """theta^(1), theta^(2), theta^(3) [B, P] of one agent."""
    agent.eval()
    found = []
    for steps in (1, 2, 3):
        agent.config = agent.config.model_copy(update={"eval_steps": steps})
        found.append(agent.adapt(episode.support).params)
    agent.train()
    return found


def as_gradient_descent(name, kind, prior, **settings):
    """The agent with the parameters of the proof."""
    agent = make_agent(name, kind, inner_steps=3, first_order=False, inner_clip=None, task_clip=None, **settings)
    with torch.no_grad():
        agent.initialization.copy_(prior)
        for p in agent.rule.parameters():
            p.zero_()
        if name == "turtle":
            agent.rule.networks[0].weights[0, 0] = -ALPHA  # the only weight; the bias is 0
        else:
            gates = unpack(agent.rule.weights, agent.rule.shapes)
            gates["forget"][:, -1] = 40.0  # sigmoid(40) = 1 in float64
            gates["rate"][:, -1] = -math.log((1 - ALPHA) / ALPHA)
    return agent


CONTAINERS = {
    "turtle": ("turtle", {"hidden_layers": 0, "history": "none", "time_input": False, "learned_rates": False}, 0.0),
    "lstm": ("lstm", {}, 1e-13),
    "lstm-enhanced": ("lstm-enhanced", {}, 1e-13),
}


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("case", CONTAINERS)
def test_contains_maml(case, kind):
    name, settings, tolerance = CONTAINERS[case]
    maml = make_agent("maml", kind, inner_steps=3, inner_lr=ALPHA, inner_clip=None, task_clip=None)
    other = as_gradient_descent(name, kind, maml.initialization.detach(), **settings)
    episode = batch_of_tasks(maml.spec)
    for ours, theirs in zip(trajectory(other, episode), trajectory(maml, episode), strict=True):
        assert (ours - theirs).abs().max() <= tolerance
    want = gradients(agent_meta_loss(maml, episode), maml)["initialization"]
    got = gradients(agent_meta_loss(other, episode), other)["initialization"]
    assert want.abs().max() > 1e-3
    assert (got - want).abs().max() <= max(tolerance, 1e-13) * 10
