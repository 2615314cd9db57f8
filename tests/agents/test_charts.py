"""What agents show of themselves: the way of an adaptation, features, and curves of what was learned."""

import itertools

import pytest
import torch

from agents.charts import update_by_gradient
from tests.helpers.agents import batch_of_tasks, make_agent


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", ["maml", "turtle", "lstm"])
def test_a_trajectory_is_what_fewer_steps_would_give(name, kind):
    agent = make_agent(name, kind, inner_steps=3, eval_steps=3).eval()
    task = batch_of_tasks(agent.spec)
    way = agent.trajectory(task.support)
    assert len(way) == 4
    assert torch.equal(way[0].params, agent.initialization.expand(2, -1))
    for steps, adapted in enumerate(way):
        fewer = make_agent(name, kind, inner_steps=3, eval_steps=steps).eval().adapt(task.support)
        torch.testing.assert_close(adapted.params, fewer.params)
        assert adapted.losses.shape == (2, steps)
    norms = [(b.params - a.params).norm(dim=1) for a, b in itertools.pairwise(way)]
    torch.testing.assert_close(way[-1].norms[..., 1], torch.stack(norms, 1))


def test_norms_of_gradients_and_updates_are_reported_by_step():
    agent = make_agent("maml", "mlp", inner_steps=2, inner_lr=0.1).eval()
    row = agent.inspect(agent.trajectory(batch_of_tasks(agent.spec).support)[-1])
    assert set(row) == {f"{what}_{t}" for what in ("loss", "grad_norm", "update_norm") for t in (0, 1)}
    for t in (0, 1):
        assert row[f"update_norm_{t}"] == pytest.approx(0.1 * row[f"grad_norm_{t}"], rel=1e-5)
    assert set(agent.inspect(agent.adapt(batch_of_tasks(agent.spec).support))) == {"loss_0", "loss_1"}


def test_an_agent_without_inner_steps_has_a_way_from_the_initialization_to_the_end():
    agent = make_agent("finetuning", "mlp").eval()
    task = batch_of_tasks(agent.spec)
    before, after = (agent.predict(adapted, task.query.x) for adapted in agent.trajectory(task.support))
    assert torch.equal(after, agent.predict(agent.adapt(task.support), task.query.x))
    assert not torch.equal(before, after)


def test_the_updates_of_gradient_descent_are_a_line():
    agent = make_agent("maml", "mlp", inner_steps=2, inner_lr=0.3).eval()
    chart = agent.charts(batch_of_tasks(agent.spec, tasks=40).support)["update"]
    grads = torch.randn(1000)
    exact = update_by_gradient({"x": (grads, -0.3 * grads)})
    width = float(exact.x[1] - exact.x[0])
    assert (exact.lines["x"] + 0.3 * exact.x).abs().nan_to_num(0).max() <= 0.3 * width / 2
    assert set(chart.lines) == {"first step", "last step"}
    width = float(chart.x[1] - chart.x[0])
    for y in chart.lines.values():
        assert y.isfinite().sum() > 10
        assert (y + 0.3 * chart.x).abs().nan_to_num(0).max() <= 0.3 * width / 2 + 1e-6


@pytest.mark.parametrize("history", ["none", "gradients", "updates"])
def test_turtles_response_is_its_networks(history):
    agent = make_agent("turtle", "mlp", inner_steps=2, history=history, time_input=True, loss_input=True).eval()
    support = batch_of_tasks(agent.spec).support
    chart = agent.charts(support)["response"]
    losses = agent.adapt(support).losses.mean(0)
    for step, y in enumerate(chart.lines.values()):
        held = {"none": [], "gradients": [chart.x], "updates": [0 * chart.x]}[history]
        inputs = torch.stack([chart.x, *held, torch.full_like(chart.x, step), losses[step].expand_as(chart.x)])
        torch.testing.assert_close(y, agent.rule.networks[0](inputs.unsqueeze(1))[0])
    assert list(chart.lines) == ["step 1", "step 2"]


def test_turtle_has_a_response_for_each_of_its_networks():
    agent = make_agent("turtle", "mlp", per_layer=True).eval()
    charts = agent.charts(batch_of_tasks(agent.spec).support)
    assert set(charts) == {"update", "response/layer0", "response/layer1", "response/head"}


def test_the_lstms_gates_are_those_of_its_update():
    agent = make_agent("lstm", "mlp", inner_steps=3).eval()
    charts = agent.charts(batch_of_tasks(agent.spec).support)
    forget, rate = charts["gates/forget"], charts["gates/rate"]
    assert forget.x.tolist() == [1, 2, 3]
    assert forget.lines["f"].min() > 0.95  # W_f's bias lies in [4, 6] at first,
    assert 0.005 < rate.lines["i"].min() < rate.lines["i"].max() < 0.025  # W_i's in [-5, -4]
    low, high = rate.bands["i"]
    assert (low <= rate.lines["i"]).all()
    assert (rate.lines["i"] <= high).all()


def test_features_are_what_the_head_reads():
    for kind in ("mlp", "conv"):
        agent = make_agent("maml", kind).eval()
        task = batch_of_tasks(agent.spec)
        adapted = agent.adapt(task.support)
        seen = agent.net.head(adapted.params[:, agent.net.n_body :], agent.embed(adapted, task.query.x))
        torch.testing.assert_close(seen, agent.predict(adapted, task.query.x), rtol=1e-4, atol=1e-5)
