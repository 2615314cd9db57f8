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


def along_a_direction(agent, episode, seed=3, size=1e-7):
    """The derivative of the meta-loss along a random direction: by its gradient, and by a finite difference."""
    loss = agent_meta_loss(agent, episode)
    found = gradients(loss, agent)
    generator = torch.Generator().manual_seed(seed)
    by_gradient = 0.0
    steps = {}
    for name, parameter in agent.named_parameters():
        steps[name] = torch.randn(parameter.shape, generator=generator)
        by_gradient += float((found[name] * steps[name]).sum())
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for name, parameter in agent.named_parameters():
                parameter.add_(sign * size * steps[name])
            values.append(float(agent_meta_loss(agent, episode)))
        for name, parameter in agent.named_parameters():
            parameter.add_(size * steps[name])
    return by_gradient, (values[0] - values[1]) / (2 * size)


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
