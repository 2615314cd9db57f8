"""Permuting the support, and relabelling classes, permutes the predictions accordingly."""

import pytest
import torch

from fewshot_env.episode import Split
from tests.helpers.agents import IMAGES, batch_of_tasks, make_agent

pytestmark = pytest.mark.usefixtures("float64")
META = ["maml", "fo-maml", "turtle", "fo-turtle", "lstm", "lstm-enhanced"]


def answers(agent, support, query):
    agent.eval()
    return agent.predict(agent.adapt(support), query.x)


@pytest.mark.parametrize("bn", ["transductive", "support", "running"])
@pytest.mark.parametrize("name", META)
def test_order_of_items_does_not_matter(name, bn):
    agent = make_agent(name, "conv", inner_steps=2, bn=bn)
    task = batch_of_tasks(IMAGES)
    if bn == "running":  # as after some training
        agent.running.copy_(agent.net.features_and_statistics(agent.initialization.detach(), task.support.x[:1])[1][0])
    order, query_order = torch.randperm(6), torch.randperm(9)
    shuffled = Split(task.support.x[:, order], task.support.y[:, order])
    before = answers(agent, task.support, task.query)
    after = answers(agent, shuffled, Split(task.query.x[:, query_order], None))
    assert (before - before[:, :1]).abs().max() > 1e-6
    assert (after - before[:, query_order]).abs().max() < 1e-9


def relabel(agent, classes):
    """Permute the class rows of the agent's head (and what belongs to these weights)."""
    weight, bias = agent.net.layers["head"].start, agent.net.n_params - 3
    index = torch.arange(agent.net.n_params)
    index[weight:bias] = index[weight:bias].view(3, -1)[classes].flatten()
    index[bias:] = index[bias:][classes]
    with torch.no_grad():
        agent.initialization.copy_(agent.initialization[:, index])
        if getattr(agent.rule, "rates", None) is not None:
            agent.rule.rates.copy_(agent.rule.rates[:, index])


@pytest.mark.parametrize("name", META)
def test_relabelling_classes_relabels_the_answers(name):
    agent = make_agent(name, "conv", inner_steps=2)
    task = batch_of_tasks(IMAGES)
    before = answers(agent, task.support, task.query)
    classes = torch.tensor([2, 0, 1])  # new class c is old class classes[c]
    relabel(agent, classes)
    renamed = Split(task.support.x, classes.argsort()[task.support.y])
    after = answers(agent, renamed, task.query)
    assert (after - before[..., classes]).abs().max() < 1e-9
    assert (after - before).abs().max() > 1e-6
