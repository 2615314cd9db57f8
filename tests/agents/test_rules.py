"""Details of the update rules and base learners that the papers fix."""

import math

import pytest
import torch
import torch.nn.functional as F

import agents
from agents import kernels
from agents.kernels import coordinates
from agents.meta_lstm import LSTMConfig, LSTMRule, preprocess
from agents.networks import CosineHead, LinearHead, Network, make_body, unpack
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from tests.helpers.agents import SINE, batch_of_tasks, make_agent

MINI = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))


def test_sizes_of_the_papers_networks():
    assert Network(make_body("auto", (1,), (40, 40), 64, 0), LinearHead(40, 1)).n_params == 1761
    published = make_body("auto", (3, 84, 84), (40, 40), 64, 0)
    assert (published.n_features, Network(published, LinearHead(576, 5)).n_params) == (576, 115_973)
    assert make_body("auto", (3, 84, 84), (40, 40), 64, 1).n_features == 1600
    turtle = agents.make("turtle", SINE, time_input=False)
    assert sum(p.numel() for p in turtle.rule.networks.parameters()) == 1761
    assert sum(p.numel() for p in agents.make("turtle", SINE).rule.networks.parameters()) == 1781


@pytest.mark.parametrize("name", [n for n in agents.AGENTS if n not in ("chance", "protonet")])
def test_small_images_get_the_padding_that_they_need(name):
    def config(size):
        return agents.make(name, TaskSpec("classification", (3, size, size), 5, 64, (0, 1), (0, 4)), filters=2).config

    assert [config(size).padding for size in (16, 28, 45, 46, 84)] == [1, 1, 1, 0, 0]
    with pytest.raises(FewShotError, match=r"images of 15x15 are too small for Conv4"):
        config(15)


def test_initial_values():
    torch.manual_seed(0)
    agent = agents.make("turtle", MINI)
    parts = {n: agent.initialization.detach()[0, where] for n, where in agent.net.layers.items()}
    first = parts["block0"]
    assert first[: 64 * 27].abs().max() <= 1 / math.sqrt(27)
    assert first[: 64 * 27].std().item() == pytest.approx(1 / math.sqrt(81), rel=0.05)
    assert (first[-128:-64] == 1).all()
    assert (first[-64:] == 0).all()
    assert first[64 * 27 : 64 * 28].abs().max() > 0.01  # convolution biases are not zero
    assert (parts["head"][-5:] == 0).all()
    assert agent.rule.rates.min() >= 0
    assert agent.rule.rates.max() < 1
    assert agent.rule.rates.mean().item() == pytest.approx(0.5, abs=0.01)
    for weight, bias in agent.rule.networks[0].layers():
        assert (bias == 0).all()
        assert 0.8 * weight.shape[2] ** -0.5 < weight.abs().max() <= weight.shape[2] ** -0.5
    rule = LSTMRule(LSTMConfig())
    lstm = unpack(rule.weights.detach(), rule.shapes)
    assert 4 <= lstm["forget"][0, -1] <= 6
    assert -5 <= lstm["rate"][0, -1] <= -4
    assert 0.005 < lstm["rate"][0, :-1].abs().max() <= 0.01


def test_paper_settings():
    def config(name, spec, n_shot):
        return agents.make(name, spec, n_shot).config

    assert (config("maml", MINI, 1).inner_steps, config("maml", MINI, 1).eval_steps) == (5, 10)
    assert (config("maml", MINI, 1).meta_batch, config("maml", MINI, 5).meta_batch) == (4, 2)
    assert (config("maml", SINE, 5).inner_steps, config("maml", SINE, 5).meta_batch) == (1, 1)
    assert (config("lstm", MINI, 1).inner_steps, config("lstm", MINI, 5).inner_steps) == (12, 5)
    enhanced = config("lstm-enhanced", MINI, 1)
    assert (enhanced.inner_steps, enhanced.first_order, enhanced.raw_gradients) == (8, False, True)
    turtle = config("turtle", MINI, 1)
    assert (turtle.inner_steps, turtle.meta_batch, turtle.hidden_layers, turtle.hidden_units) == (5, 2, 5, 20)
    assert (turtle.history, turtle.beta, turtle.time_input, turtle.learned_rates) == ("gradients", 0.9, True, True)


def test_preprocessing():
    x = torch.tensor([1.0, -1.0, math.e**-5, 1e-6, -1e-6, 0.0], dtype=torch.float64)
    size, sign = preprocess(x)
    assert size.tolist() == pytest.approx([0, 0, -0.5, -1, -1, -1], abs=1e-6)
    assert sign.tolist() == pytest.approx([1, -1, 1, math.e**10 * 1e-6, -(math.e**10) * 1e-6, 0])


def test_the_first_lstm_layer_is_torchs_cell(float64):
    """With both of nn.LSTMCell's biases in one."""
    torch.manual_seed(0)
    rule = LSTMRule(LSTMConfig(hidden_units=5)).double()
    cell = torch.nn.LSTMCell(4, 5).double()
    with torch.no_grad():
        w = unpack(rule.weights, rule.shapes)
        cell.weight_ih.copy_(w["weight"][0, :, :4])
        cell.weight_hh.copy_(w["weight"][0, :, 4:])
        cell.bias_ih.copy_(w["bias"][0])
        cell.bias_hh.zero_()
    params, grads, loss = torch.randn(2, 7), torch.randn(2, 7), torch.rand(2)
    state = rule.init(params)
    hx = None
    for step in range(3):
        x = torch.cat([preprocess(loss.view(2, 1)).expand(2, 2, 7), preprocess(grads)]).permute(1, 2, 0).reshape(14, 4)
        hx = cell(x, hx)
        params, state = rule(params, grads, loss, step, state)
        assert torch.allclose(state.hidden.permute(1, 2, 0).reshape(14, 5), hx[0], atol=1e-12)
        assert torch.allclose(state.cell.permute(1, 2, 0).reshape(14, 5), hx[1], atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "lstm-enhanced", "turtle"])
def test_recomputing_changes_memory_alone(name, float64, monkeypatch):
    task = batch_of_tasks(SINE)
    found, kept = [], []
    for recompute in (True, False):
        monkeypatch.setattr(coordinates, "RECOMPUTE_ABOVE", 0 if recompute else 10**9)
        agent, sizes = make_agent(name, "mlp", inner_steps=3), []
        keep = torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        )
        with kernels.off(), keep:
            predictions = agent.predict(agent.adapt(task.support), task.query.x)
        with kernels.off():
            agent.meta_update(predictions, task.query.y)
        found.append(torch.cat([p.grad.flatten() for p in agent.parameters()]))
        kept.append(sum(sizes))
    assert torch.equal(*found)
    assert kept[0] < 0.7 * kept[1]


def test_outer_norm_clipping():
    agent = make_agent("lstm", "mlp")
    task = batch_of_tasks(SINE)
    row = agent.meta_update(100 * agent.predict(agent.adapt(task.support), task.query.x), task.query.y)
    assert row["grad_norm"] > 0.25
    total = torch.cat([p.grad.flatten() for p in agent.parameters()]).norm()
    assert total.item() == pytest.approx(0.25, rel=1e-3)


def test_cosine_head(float64):
    torch.manual_seed(0)
    head = CosineHead(6, 3, scale=2.0, learn_gain=True)
    params = torch.cat([head.init(n, s, None).flatten() for n, s in head.shapes.items()])
    features = torch.randn(1, 4, 6)
    weight, gain = params[:18].view(3, 6), params[18:]
    expected = 2 * gain * F.cosine_similarity(features[0, :, None], weight[None], dim=-1)
    assert torch.allclose(head(params[None], features)[0], expected)
    assert torch.allclose(head(params[None], 7 * features), head(params[None], features), atol=1e-5)
    pure = CosineHead(6, 3, scale=10.0, learn_gain=False)
    assert list(pure.shapes) == ["head.weight"]
    assert torch.allclose(pure(params[None, :18], features)[0], expected / gain / 2 * 10)


def test_turtle_options_change_the_inputs():
    def n_inputs(**settings):
        return agents.make("turtle", SINE, **settings).rule.networks[0].sizes[0]

    assert n_inputs() == 3
    assert n_inputs(history="none") == 2
    assert n_inputs(history="none", time_input=False) == 1
    assert n_inputs(history="updates", loss_input=True) == 4
    assert len(agents.make("turtle", SINE, per_layer=True).rule.networks) == 3
    assert agents.make("turtle", SINE, learned_rates=False).rule.rates is None
    assert agents.make("turtle", SINE, learned_rates=False).distributions() == {}
    layers = agents.make("turtle", MINI).distributions()
    assert [v.numel() for v in layers.values()] == [64 * 30, 64 * 579, 64 * 579, 64 * 579, 577 * 5]
