"""The three settings of `bn`: which statistics the query is normalised with."""

import math

import pytest
import torch

from agents.networks import make_body
from fewshot_env.episode import Split
from tests.helpers.agents import IMAGES, batch_of_tasks, make_agent

pytestmark = pytest.mark.usefixtures("float64")
OTHER = Split(torch.rand(2, 4, 2, 18, 18, dtype=torch.float64) * 3, None)


def answer_to_first(agent, task, companions):
    """The answer to query item 0, asked together with different companions."""
    query = torch.cat([task.query.x[:, :1], companions.x], 1)
    return agent.predict(agent.adapt(task.support), query)[:, 0]


@pytest.mark.parametrize("name", ["maml", "turtle", "lstm", "finetuning", "baseline++", "scratch"])
@pytest.mark.parametrize(("bn", "alone"), [("transductive", False), ("support", True), ("running", True)])
def test_only_transductive_answers_depend_on_the_rest_of_the_query(name, bn, alone):
    agent = make_agent(name, "conv", bn=bn).eval()
    task = batch_of_tasks(IMAGES)
    change = answer_to_first(agent, task, task.query) - answer_to_first(agent, task, OTHER)
    assert bool(change.abs().max() < 1e-9) is alone


def test_statistics_are_those_of_the_layers():
    agent = make_agent("maml", "conv")
    x = torch.rand(2, 5, 2, 18, 18, dtype=torch.float64)
    params = agent.initialization.detach().expand(2, -1)
    plain = agent.net(params, x)
    features, stats = agent.net.features_and_statistics(params, x)
    outputs = agent.net.head(params[:, agent.net.n_body :], features)
    assert torch.allclose(plain, outputs, atol=1e-12)
    # normalising with one's own statistics, given from outside, is the same thing
    assert torch.allclose(agent.net(params, x, stats), plain, atol=1e-12)
    weight = agent.initialization[0, : 3 * 18].view(3, 2, 3, 3)
    h = torch.nn.functional.conv2d(x[1], weight, agent.initialization[0, 54:57], padding=1)
    assert torch.allclose(stats[1, :3], h.mean((0, 2, 3)), atol=1e-12)
    assert torch.allclose(stats[1, 3:6], h.var((0, 2, 3), correction=0), atol=1e-12)


def test_running_statistics_follow_the_training_queries():
    agent = make_agent("finetuning", "conv", bn_momentum=0.25)
    assert agent.running[:6].tolist() == [0, 0, 0, 1, 1, 1]
    x = torch.rand(1, 16, 2, 18, 18, dtype=torch.float64)
    with torch.no_grad():
        expected = 0.75 * agent.running + 0.25 * agent.base_net.features_and_statistics(agent.weights[None], x)[1][0]
    empty = Split(x[:, :0], torch.zeros(1, 0, dtype=torch.int64))
    predictions = agent.predict(agent.adapt(empty), x)
    before = agent.running.clone()
    agent.meta_update(predictions, torch.arange(16).remainder(5)[None])
    assert not torch.equal(before, agent.running)
    assert torch.allclose(agent.running, expected, atol=1e-12)


def test_support_statistics_are_differentiated(float64):
    """bn = support: the query's normalisation depends on the fast weights through the support."""
    agent = make_agent("maml", "conv", bn="support", inner_steps=1, inner_lr=0.1)
    task = batch_of_tasks(IMAGES)

    def loss():
        predictions = agent.predict(agent.adapt(task.support), task.query.x)
        return agent.spec.loss(predictions, task.query.y).sum()

    exact = torch.autograd.grad(loss(), agent.initialization)[0]
    direction = torch.randn_like(exact)
    values = []
    for sign in (1e-8, -1e-8):
        with torch.no_grad():
            agent.initialization.add_(sign * direction)
            values.append(loss().item())
            agent.initialization.sub_(sign * direction)
    assert (values[0] - values[1]) / 2e-8 == pytest.approx((exact * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("items", [0, 1, 21])
def test_features_without_a_graph_are_those_with_one(given, items):
    torch.manual_seed(0)
    body = make_body("conv4", (2, 18, 18), (6,), 3, 1)
    params = torch.rand(2, sum(math.prod(shape) for shape in body.shapes.values()), requires_grad=True)
    x, stats = torch.rand(2, items, 2, 18, 18), body.initial_stats().expand(2, -1) if given else None
    expected = body(params, x, stats, None)
    with torch.no_grad():
        torch.testing.assert_close(body(params, x, stats, None), expected.detach(), rtol=1e-5, atol=1e-6)
