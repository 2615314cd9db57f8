"""Meta-gradients in float64 against an independent plain loop, and against finite differences."""

import pytest
import torch

from agents import kernels
from agents.networks import Conv4Body, LinearHead, MLPBody, Network
from agents.networks.conv4 import Conv4Objective
from agents.networks.mlp import MLPObjective
from agents.networks.objective import Objective
from fewshot_env.episode import Split, TaskSpec
from tests.helpers.agents import (
    agent_meta_loss,
    batch_of_tasks,
    gradients,
    make_agent,
    plain_meta_loss,
    relative_error,
)

pytestmark = pytest.mark.usefixtures("float64")
BOTH = [("mlp", 1e-9), ("conv", 1e-9)]


def maml_update(agent):
    return lambda t, theta, g, loss, memory: theta - agent.config.inner_lr * g


def turtle_update(agent):
    config, rule = agent.config, agent.rule
    regions = list(agent.net.layers.values()) if config.per_layer else [slice(None)]

    def g_phi(network, columns):
        h = columns  # [P, d]
        layers = network.layers()
        for i, (w, b) in enumerate(layers):
            h = h @ w[0].T + b[0]
            h = torch.relu(h) if i < len(layers) - 1 else h
        return h[:, 0]

    def update(t, theta, g, loss, memory):
        columns = [g]
        if config.history == "gradients":
            memory["h"] = g if t == 0 else config.beta * memory["h"] + (1 - config.beta) * g
            columns.append(memory["h"])
        if config.history == "updates":
            # h_0 = 0; then h_t = beta h_(t-1) + (1 - beta) u_(t-1)  (Eq. 6)
            h = torch.zeros_like(g) if t == 0 else config.beta * memory["h"] + (1 - config.beta) * memory["u"]
            memory["h"] = h
            columns.append(h)
        if config.time_input:
            columns.append(torch.full_like(g, t))
        if config.loss_input:
            columns.append(loss.expand_as(g))
        rows = torch.stack(columns, 1)
        step = torch.cat([g_phi(net, rows[where]) for net, where in zip(rule.networks, regions, strict=True)])
        if rule.rates is not None:
            step = rule.rates[0] * step
        memory["u"] = step
        return theta + step

    return update


def squash(x):
    p = 10
    if abs(x) >= torch.e**-p:
        return torch.log(x.abs() + 1e-8) / p, torch.sign(x)
    return torch.tensor(-1.0), torch.e**p * x


def lstm_update(agent):
    rule, config = agent.rule, agent.config
    units = config.hidden_units
    width = units + (1 if config.raw_gradients else 4)

    def gate(weights, h, theta, previous):
        return torch.sigmoid(h @ weights[:units] + weights[units] * theta + weights[units + 1] * previous + weights[-1])

    def update(t, theta, g, loss, memory):
        first, bias, w_f, w_i = rule.weights[0].split([4 * units * width, 4 * units, units + 3, units + 3])
        zero = torch.zeros(len(theta), units)
        h, c = memory.get("h", zero), memory.get("c", zero)
        f_old, i_old = memory.get("f", torch.zeros_like(theta)), memory.get("i", torch.zeros_like(theta))
        if config.raw_gradients:
            x = g.unsqueeze(1)
        else:
            pairs = torch.stack([torch.stack(squash(v)) for v in g])
            x = torch.cat([torch.stack(squash(loss)).expand(len(g), 2), pairs], 1)
        z = torch.cat([x, h], 1) @ first.view(4 * units, width).T + bias
        i1, f1, c1, o1 = z[:, :units], z[:, units : 2 * units], z[:, 2 * units : 3 * units], z[:, 3 * units :]
        c = torch.sigmoid(f1) * c + torch.sigmoid(i1) * torch.tanh(c1)
        h = torch.sigmoid(o1) * torch.tanh(c)
        f, i = gate(w_f, h, theta, f_old), gate(w_i, h, theta, i_old)
        memory |= {"h": h, "c": c, "f": f, "i": i}
        return f * theta - i * g

    return update


CASES = {
    "maml": ("maml", maml_update, {"inner_lr": 0.1}),
    "turtle": ("turtle", turtle_update, {}),
    "turtle-plain": (
        "turtle",
        turtle_update,
        {"history": "none", "time_input": False, "learned_rates": False, "hidden_layers": 2},
    ),
    "turtle-updates": ("turtle", turtle_update, {"history": "updates", "per_layer": True, "hidden_layers": 1}),
    "turtle-loss": ("turtle", turtle_update, {"loss_input": True, "hidden_layers": 2}),
    "lstm": ("lstm", lstm_update, {"hidden_units": 4}),
    "lstm-raw": ("lstm-enhanced", lstm_update, {"hidden_units": 4}),
}


def use_kernels(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(kernels, "library", lambda: None)
    elif kernels.library() is None:
        pytest.skip("no compiled kernels on this machine")


def build(case, kind, first_order, steps=3, **more):
    name, update, settings = CASES[case]
    agent = make_agent(name, kind, inner_steps=steps, first_order=first_order, **settings, **more)
    if case.startswith("lstm"):
        # larger gates than at the start of training, so that the LSTM really acts
        with torch.no_grad():
            for p in agent.rule.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return agent, update(agent)


@pytest.mark.parametrize("first_order", [False, True], ids=["second", "first"])
@pytest.mark.parametrize(("kind", "tolerance"), BOTH)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compiled", [True, False], ids=["kernels", "torch"])
def test_equals_the_plain_loop(case, kind, tolerance, first_order, compiled, monkeypatch):
    use_kernels(monkeypatch, compiled)
    agent, update = build(case, kind, first_order)
    episode = batch_of_tasks(agent.spec)
    clip = agent.config.inner_clip
    expected = plain_meta_loss(agent, episode, update, 3, first_order, clip)
    actual = agent_meta_loss(agent, episode)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-11)
    want, got = gradients(expected, agent), gradients(actual, agent)
    assert all(g.abs().max() < 10 for g in want.values()), "the outer clip would act: choose tamer tasks"
    assert relative_error(got, want) < tolerance


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("case", [c for c in CASES if c not in ("lstm", "turtle-loss")])
def test_second_order_equals_finite_differences(case, kind):
    """Along random directions of all meta-parameters.

    Rules that read the loss are left out: it is a constant by definition, which differences cannot know.
    The step is tiny because the inner gradient jumps where a ReLU or a max-pool switches.
    """
    agent, _ = build(case, kind, first_order=False, inner_clip=None, task_clip=None)
    if hasattr(agent.rule, "networks"):
        with torch.no_grad():  # dead units have gradient 0: move them off the kink of the meta-network's ReLUs
            for network in agent.rule.networks:
                for _, bias in network.layers():
                    bias.add_(0.1 * torch.rand_like(bias))
    episode = batch_of_tasks(agent.spec)
    exact = gradients(agent_meta_loss(agent, episode), agent)
    parameters = dict(agent.named_parameters())
    torch.manual_seed(3)
    for _ in range(3):
        direction = {n: torch.randn_like(p) for n, p in parameters.items()}
        step, values = 1e-8, []
        for sign in (1, -1):
            with torch.no_grad():
                for n, p in parameters.items():
                    p.add_(sign * step * direction[n])
            values.append(agent_meta_loss(agent, episode).item())
            with torch.no_grad():
                for n, p in parameters.items():
                    p.sub_(sign * step * direction[n])
        slope = (values[0] - values[1]) / (2 * step)
        expected = sum((exact[n] * direction[n]).sum().item() for n in parameters)
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("case", CASES)
def test_first_order_differs_from_second(case, kind):
    episode = batch_of_tasks(build(case, kind, True)[0].spec)
    both = []
    for first_order in (True, False):
        agent, _ = build(case, kind, first_order)
        both.append(gradients(agent_meta_loss(agent, episode), agent))
    assert relative_error(*both) > 1e-4


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_clipping_inside_and_of_each_tasks_gradient(kind):
    """inner_clip bounds inner gradients (differentiably), task_clip each task's gradient of the initialization."""
    agent = make_agent("maml", kind, inner_steps=3, inner_lr=0.1, inner_clip=0.01, task_clip=0.01)
    episode = batch_of_tasks(agent.spec)
    got = gradients(agent_meta_loss(agent, episode), agent)["initialization"]
    want = 0
    for b in range(2):
        one = type(episode)(episode.support[b : b + 1], episode.query[b : b + 1])
        loss = plain_meta_loss(agent, one, maml_update(agent), 3, False, 0.01)
        want = want + gradients(loss, agent)["initialization"].clamp(-0.01, 0.01)
    assert want.abs().max() > 0.01
    assert (got - want).abs().max() < 1e-12
    for settings, largest in (
        ({"inner_clip": 0.01}, None),
        ({"task_clip": 0.01}, 0.02 + 1e-12),
    ):  # two tasks are summed
        alone = make_agent("maml", kind, inner_steps=1, inner_lr=0.1, **settings)
        found = gradients(agent_meta_loss(alone, episode), alone)["initialization"].abs().max()
        assert found <= largest if largest else found > 0.02
    defaults = [make_agent("maml", kind, inner_steps=steps).config for steps in (1, 2)]
    assert [(c.inner_clip, c.task_clip) for c in defaults] == [(None, None), (10.0, 10.0)]  # as published


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("case", ["maml", "turtle", "lstm"])
def test_all_tasks_at_once_equals_one_by_one(case, kind, monkeypatch):
    agent, _ = build(case, kind, first_order=False)
    episode = batch_of_tasks(agent.spec, tasks=3)
    results = []
    for batched in (True, False):
        monkeypatch.setattr(type(agent.body), "batched", lambda self, device, batched=batched: batched)
        results.append(gradients(agent_meta_loss(agent, episode), agent))
    assert relative_error(*results) < 1e-9


@pytest.mark.parametrize("size", [17, 18])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("batched", [True, False], ids=["grouped", "looped"])
def test_the_written_out_conv4_derivatives_equal_autograd(batched, padding, size, monkeypatch):
    """Gradient and Hessian-vector product, with odd sizes that the pool crops, and biases that do not matter."""
    size += 36 * (1 - padding)
    body = Conv4Body((2, size, size), 3, padding)
    monkeypatch.setattr(Conv4Body, "batched", lambda self, device: batched)
    torch.manual_seed(0)
    spec = TaskSpec("classification", (2, size, size), 3, 3, (0, 1), (0, 2))
    net = Network(body, LinearHead(body.n_features, 3))
    params = torch.stack([net.init().double() for _ in range(3)]) + 0.1 * torch.randn(3, net.n_params)
    support = Split(torch.randn(3, 5, 2, size, size), torch.randint(3, (3, 5)))
    plain, fast = Objective(net, spec, support, None), Conv4Objective(net, spec, support, None)
    v = torch.randn_like(params)
    for a, b in zip(plain.gradient(params), fast.gradient(params), strict=True):
        assert (a - b).abs().max() < 1e-13
    expected = plain.hessian_vector(params, v)
    assert expected.abs().max() > 1
    assert (expected - fast.hessian_vector(params, v)).abs().max() < 1e-11 * expected.abs().max()


def test_the_written_out_mlp_derivatives_equal_autograd():
    torch.manual_seed(0)
    for kind, n in (("regression", 1), ("regression", 2), ("classification", 3)):
        spec = TaskSpec(kind, (4,), n, n, (-1, 1), (-1, 1))
        net = Network(MLPBody(4, (7, 6)), LinearHead(6, n))
        params = torch.stack([net.init().double() for _ in range(3)]) + 0.1 * torch.randn(3, net.n_params)
        y = torch.randn(3, 5, n) if kind == "regression" else torch.randint(n, (3, 5))
        support = Split(torch.randn(3, 5, 4), y)
        plain, fast = Objective(net, spec, support, None), MLPObjective(net, spec, support, None)
        v = torch.randn_like(params)
        for a, b in zip(plain.gradient(params), fast.gradient(params), strict=True):
            assert (a - b).abs().max() < 1e-14
        assert (plain.hessian_vector(params, v) - fast.hessian_vector(params, v)).abs().max() < 1e-13
