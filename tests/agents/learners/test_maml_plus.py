"""MAML++ against a plain loop: losses of every step, rates by layer and step, normalizations by step; its schedules."""

import math

import pytest
import torch

import agents
from agents.maml_plus import loss_weights
from fewshot_env.errors import FewShotError
from tests.helpers.agents import (
    IMAGES,
    agent_meta_loss,
    batch_of_tasks,
    gradients,
    make_agent,
    plain_loss,
    relative_error,
)
from tests.helpers.learners import by_differences, meta_gradient, shaken

pytestmark = pytest.mark.usefixtures("float64")
KINDS = ["mlp", "conv"]
FREE = {"inner_clip": None, "task_clip": None}


def at_step(agent, outer_steps):
    """The agent as after so many outer steps."""
    agent.outer.optimizer.param_groups[0]["taken"] = outer_steps
    return agent


def plain_steps(agent, episode, weights, first_order):
    """The summed weighted query losses, task by task."""
    spec, rule, total = agent.spec, agent.rule, 0
    affine = [name.endswith(("scale", "shift")) for name in agent.net.shapes]
    sizes = [torch.Size(shape).numel() for shape in agent.net.shapes.values()]
    for b in range(2):
        theta = agent.initialization[0] * 1.0
        for t, weight in enumerate(weights):
            loss = plain_loss(spec, theta, episode.support, b)
            (g,) = torch.autograd.grad(loss, theta, create_graph=not first_order)
            parts = [theta[w] - rule.rates[0, t, i] * g[w] for i, w in enumerate(agent.net.layers.values())]
            parts, used = list(torch.cat(parts).split(sizes)), 0
            for i, is_affine in enumerate(affine):
                if is_affine:
                    parts[i] = rule.affine[0, t, used : used + sizes[i]]
                    used += sizes[i]
            theta = torch.cat(parts)
            total = total + weight * plain_loss(spec, theta, episode.query, b)
    return total


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("taken", [0, 60, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_its_plain_loop(kind, taken, first_order):
    agent = make_agent("maml++", kind, inner_steps=3, schedule_steps=1000, first_order=first_order, **FREE)
    agent = at_step(shaken(agent, 0.02), taken)
    episode = batch_of_tasks(agent.spec)
    weights = {0: [1 / 3] * 3, 60: [0.2, 0.2, 0.6], 1000: [0, 0, 1]}[taken]  # 60 of 150 steps: 40 % of the way
    expected = plain_steps(agent, episode, weights, first_order)
    losses, found = meta_gradient(agent, episode)
    last = plain_steps(agent, episode, [0, 0, 1], first_order)
    assert losses.sum().item() == pytest.approx(last.item(), rel=1e-10)
    assert relative_error(found, gradients(expected, agent)) < 1e-9


def test_without_its_additions_it_is_maml():
    """On the MLP, which has no normalization: equal rates, all weight on the last step."""
    settings = {"inner_steps": 3, "inner_lr": 0.05}
    maml, other = make_agent("maml", "mlp", **settings), make_agent("maml++", "mlp", multi_step_share=0.0, **settings)
    other.initialization.data.copy_(maml.initialization)
    episode = batch_of_tasks(maml.spec)
    found = [meta_gradient(a, episode)[1]["initialization"] for a in (maml, other)]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind):
    """Of the weighted sum of all steps' losses."""
    agent = shaken(make_agent("maml++", kind, inner_steps=2, schedule_steps=1000, **FREE), 0.02)
    episode = batch_of_tasks(agent.spec)
    _, found = meta_gradient(agent, episode)
    by_gradient, by_difference = by_differences(agent, lambda: plain_steps(agent, episode, [0.5, 0.5], False), found)
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_scales_and_shifts_do_not_adapt_and_are_those_of_the_step():
    agent = shaken(make_agent("maml++", "conv", inner_steps=2), 0.1).eval()
    params = agent.adapt(batch_of_tasks(IMAGES).support).params
    start, places = 0, []
    for name, shape in agent.net.shapes.items():
        n = torch.Size(shape).numel()
        if name.endswith(("scale", "shift")):
            places += range(start, start + n)
        start += n
    for task in params:
        assert torch.equal(task[places], agent.rule.affine[0, -1])


def test_weights_of_the_losses():
    assert loss_weights(5, 0.0) == pytest.approx([0.2] * 5)
    assert loss_weights(5, 0.5) == pytest.approx([0.1] * 4 + [0.6])
    assert loss_weights(5, 0.99) == pytest.approx([0.006] * 4 + [0.976])
    assert loss_weights(5, 1.0) == [0, 0, 0, 0, 1]


def test_the_rate_falls_along_a_cosine_and_goes_on_where_it_was():
    agent, taken = make_agent("maml++", "mlp", outer_lr=0.4, schedule_steps=4), []
    for i in range(6):
        if i == 2:
            twin = make_agent("maml++", "mlp", outer_lr=0.4, schedule_steps=4)
            twin.load_state(agent.state())
            agent = twin
        episode = batch_of_tasks(agent.spec)
        adapted = agent.adapt(episode.support)
        agent.meta_update(agent.predict(adapted, episode.query.x), episode.query.y, adapted)
        taken.append(agent.outer.optimizer.param_groups[0]["lr"])
    span = (0.4 - 1e-5) / 2
    assert taken == pytest.approx([1e-5 + span * (1 + math.cos(math.pi * min(i, 4) / 4)) for i in range(6)])


def test_the_first_steps_may_be_first_order():
    settings = {"inner_steps": 2, "schedule_steps": 100, "first_order_share": 0.3, "multi_step_share": 0.0}
    agent = make_agent("maml++", "mlp", **settings, **FREE)
    same = make_agent("maml++", "mlp", inner_steps=2, first_order=True, multi_step_share=0.0, **FREE)
    episode = batch_of_tasks(agent.spec)
    early = meta_gradient(at_step(agent, 29), episode)[1]["initialization"]
    assert torch.equal(early, meta_gradient(same, episode)[1]["initialization"])
    late = meta_gradient(at_step(agent, 30), episode)[1]["initialization"]
    assert not torch.allclose(early, late)


def test_running_statistics_are_refused_where_every_step_has_its_own():
    with pytest.raises(FewShotError, match=r"agent\.bn=running needs agent\.body=learned or frozen"):
        agents.make("maml++", IMAGES, bn="running", padding=1)
    agent = make_agent("maml++", "conv", bn="running", body="learned")
    assert math.isfinite(agent_meta_loss(agent, batch_of_tasks(IMAGES)).item())
