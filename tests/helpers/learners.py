"""What the proofs of the learners share: values and gradients of a plain loop, and finite differences."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.agents import agent_meta_loss, gradients, plain_forward, relative_error


def same(agent, expected, episode, tolerance=1e-9):
    """The agent's summed meta-loss and its gradients are those of `expected`."""
    actual = agent_meta_loss(agent, episode)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-10)
    want, got = gradients(expected, agent), gradients(actual, agent)
    assert all(g.abs().max() > 0 for g in want.values())
    assert relative_error(got, want) < tolerance


def by_differences(agent, total, found, seed=2, size=1e-7):
    """The derivative of total() along a random direction: by the gradient `found`, and by a finite difference."""
    generator = torch.Generator().manual_seed(seed)
    steps = {n: torch.randn(p.shape, generator=generator) for n, p in agent.named_parameters()}
    values = []
    for factor in (size, -2 * size, size):
        with torch.no_grad():
            for n, p in agent.named_parameters():
                p.add_(factor * steps[n])
        values.append(total().item())
    return sum(float((found[n] * steps[n]).sum()) for n in steps), (values[0] - values[1]) / (2 * size)


def along_a_direction(agent, episode):
    """The same of the summed query losses of an agent without a meta-gradient of its own."""
    found = gradients(agent_meta_loss(agent, episode), agent)

    def total():
        with torch.no_grad():
            return agent_meta_loss(agent, episode)

    return by_differences(agent, total, found, seed=3)


def shaken(agent, size=0.1):
    """Its rule's parameters moved, so that the rule really acts."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in agent.rule.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return agent


def plain_features(agent, x):
    """The base learner's features of one task's items, by a plain forward pass whose head is the identity."""
    weights = agent.encoder.weights[0]
    if agent.spec.kind == "regression":
        h = F.relu(F.linear(x, weights[:6].view(6, 1), weights[6:12]))
        return F.relu(F.linear(h, weights[12:42].view(5, 6), weights[42:47]))
    return plain_forward(agent.spec, torch.cat([weights, torch.eye(3).flatten(), torch.zeros(3)]), x)


def meta_gradient(agent, episode):
    """The losses [B] and the gradients that the agent's own meta-gradient gives."""
    agent.zero_grad()
    adapted = agent.adapt(episode.support)
    losses = agent.meta_gradient(adapted, agent.predict(adapted, episode.query.x), episode.query.y)
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in agent.named_parameters()}
    agent.zero_grad()
    return losses, found
