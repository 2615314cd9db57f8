"""Any nn.Module as a base learner: derivatives against a plain loop in float64, all three bn modes, what is refused."""

import math
import re

import pytest
import torch
from torch import nn

import agents
from agents.networks import LinearHead, ModuleBody, Network, make_body
from agents.networks.objective import DoubleBackwardObjective
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from tests.helpers.agents import IMAGES, agent_meta_loss, batch_of_tasks, gradients, relative_error
from tests.helpers.cli import ROOT, main, only_run, result_of, sets

PAGE = (ROOT / "docs" / "networks.md").read_text()
(CODE,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def small(in_shape)" in block]
SETTINGS = {"inner_steps": 2, "inner_clip": None, "task_clip": None}
FAST = {"maml": {"inner_lr": 0.1}, "turtle": {"hidden_layers": 1}, "lstm-enhanced": {"hidden_units": 3}}


class Residual(nn.Module):
    """A small ResNet: strides, a shortcut, batch normalizations (one without weights), pooling, a scalar parameter."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.plain = nn.BatchNorm2d(4, affine=False)
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.head = nn.Linear(4, 3)  # a name that the agent's head has too
        self.register_buffer("offset", torch.tensor([0.1, 0.2, 0.3]))
        self.frozen = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, x):
        h = nn.functional.softplus(self.norm(self.first(x)))
        h = h + self.gain * self.plain(self.second(h))
        return torch.tanh(self.head(h.mean((2, 3)))) * self.frozen + self.offset


def residual(in_shape):
    torch.manual_seed(5)
    return Residual(in_shape[0]).to(torch.get_default_dtype())


def plain_features(theta, x):
    """The same written with torch.nn.functional: theta [P_body] in the order of the module's parameters."""
    position = [0]

    def take(*shape):
        n = math.prod(shape)
        position[0] += n
        return theta[position[0] - n : position[0]].view(shape)

    def normalized(h):
        mean = h.mean((0, 2, 3), keepdim=True)
        return (h - mean) / (((h - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()

    gain, first = take(), take(4, 2, 3, 3)
    scale, shift = take(4), take(4)
    second, bias = take(4, 4, 3, 3), take(4)
    weight, offset = take(3, 4), take(3)
    h = normalized(nn.functional.conv2d(x, first, stride=2)) * scale.view(1, 4, 1, 1) + shift.view(1, 4, 1, 1)
    h = nn.functional.softplus(h)
    h = h + gain * normalized(nn.functional.conv2d(h, second, bias, padding=1))
    return torch.tanh(h.mean((2, 3)) @ weight.T + offset) * 0.5 + torch.tensor([0.1, 0.2, 0.3], dtype=x.dtype)


def plain_loss(theta, split, task):
    features = plain_features(theta[:-12], split.x[task])
    outputs = features @ theta[-12:-3].view(3, 3).T + theta[-3:]
    return nn.functional.cross_entropy(outputs, split.y[task])


def make(name, **settings):
    torch.manual_seed(0)
    return agents.make(name, IMAGES, network=residual, **settings).to(torch.get_default_dtype()).train()


def test_gradient_and_hessian_vector_product_equal_the_plain_loop(float64):
    body = ModuleBody(residual((2, 18, 18)), (2, 18, 18))
    net, task = Network(body, LinearHead(3, 3)), batch_of_tasks(IMAGES, tasks=3)
    params = net.init().double() + 0.1 * torch.randn(3, net.n_params)
    objective, v = net.objective(IMAGES, task.support, None), torch.randn(3, net.n_params)
    assert isinstance(objective, DoubleBackwardObjective)
    grads, losses = objective.gradient(params)
    products = objective.hessian_vector(params, v)
    for b in range(3):
        theta = params[b].clone().requires_grad_()
        loss = plain_loss(theta, task.support, b)
        (grad,) = torch.autograd.grad(loss, theta, create_graph=True)
        (product,) = torch.autograd.grad(grad, theta, v[b])
        assert losses[b].item() == pytest.approx(loss.item(), rel=1e-12)
        assert (grads[b] - grad).abs().max() < 1e-12
        assert (products[b] - product).abs().max() < 1e-11 * product.abs().max()


def test_the_meta_gradient_of_maml_equals_the_plain_loop(float64):
    agent, task, total = make("maml", inner_lr=0.3, **SETTINGS), batch_of_tasks(IMAGES), 0
    for b in range(2):
        theta = agent.initialization[0] * 1.0
        for _ in range(2):
            loss = plain_loss(theta, task.support, b)
            (grad,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - 0.3 * grad
        total = total + plain_loss(theta, task.query, b)
    actual = agent_meta_loss(agent, task)
    assert actual.item() == pytest.approx(total.item(), rel=1e-12)
    assert relative_error(gradients(actual, agent), gradients(total, agent)) < 1e-9


@pytest.mark.parametrize("bn", ["transductive", "support", "running"])
@pytest.mark.parametrize("name", FAST)
def test_meta_gradients_equal_finite_differences_in_every_bn_mode(name, bn, float64):
    agent, task = make(name, bn=bn, **FAST[name], **SETTINGS), batch_of_tasks(IMAGES)
    exact = gradients(agent_meta_loss(agent, task), agent)["initialization"]
    direction, values = torch.randn_like(exact), []
    for sign in (1e-6, -1e-6):
        with torch.no_grad():
            agent.initialization.add_(sign * direction)
        values.append(agent_meta_loss(agent, task).item())
        with torch.no_grad():
            agent.initialization.sub_(sign * direction)
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((exact * direction).sum().item(), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("bn", ["transductive", "support", "running"])
@pytest.mark.parametrize("name", ["maml", "turtle", "lstm", "finetuning", "baseline++", "scratch"])
def test_every_agent_learns_with_it(name, bn):
    agent = make(name, bn=bn, outer_lr=0.05) if name != "scratch" else make(name, bn=bn, adapt_lr=0.05)
    task = batch_of_tasks(IMAGES, support=9)
    if name == "scratch":
        before = agent.eval().adapt(task.support.empty())
        after = agent.adapt(task.support)
        losses = [
            float(agent.spec.loss(agent.predict(w, task.support.x), task.support.y).mean()) for w in (before, after)
        ]
    else:
        support = task.support.empty() if name in ("finetuning", "baseline++") else task.support
        losses = []
        for _ in range(8):
            row = agent.meta_update(agent.predict(agent.adapt(support), task.query.x), task.query.y)
            losses.append(row["loss"])
    assert losses[-1] < losses[0]
    assert agent.running.numel() == 16
    moved = not torch.equal(agent.running, agent.body.initial_stats())
    assert moved is (bn == "running" and name != "scratch")


def test_only_transductive_answers_depend_on_the_rest_of_the_query(float64):
    task = batch_of_tasks(IMAGES)
    for bn, alone in (("transductive", False), ("support", True), ("running", True)):
        agent = make("maml", bn=bn, **SETTINGS).eval()
        adapted = agent.adapt(task.support)
        change = agent.predict(adapted, task.query.x)[:, :1] - agent.predict(adapted, task.query.x[:, :1])
        assert bool(change.abs().max() < 1e-9) is alone


def test_running_statistics_begin_with_the_modules_own():
    module = residual((2, 18, 18))
    module.norm.running_mean.fill_(3.0)
    stats = ModuleBody(module, (2, 18, 18)).initial_stats()
    assert stats.tolist() == [3.0] * 4 + [1.0] * 4 + [0.0] * 4 + [1.0] * 4


def test_a_run_on_the_documented_network(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tiny = ["train_tasks=4", "val_tasks=2", "test_tasks=4", "env.n_query=2", "agent.network=my_networks:small"]
    assert main("run", "--env", "glyphs", "--agent", "maml", *sets(*tiny), "--log-dir", tmp_path / "runs") == 0
    run = only_run(tmp_path / "runs")
    assert result_of(run)["settings"]["agent.network"] == "my_networks:small"
    assert main("eval", run) == 0
    with pytest.raises(FewShotError, match="a file never imports code; name it yourself"):
        agents.load(run / "best.pt")
    assert agents.load(run / "best.pt", network="my_networks:small").body.n_features == 64


def noisy(in_shape):
    """A network whose buffer and frozen weights are random."""
    frozen = nn.Linear(2, 3).requires_grad_(False)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), frozen, nn.Tanh())
    module.register_buffer("unused.name".replace(".", "_"), torch.randn(2))
    return module


def test_constants_of_a_network_are_saved_with_the_agent(tmp_path):
    torch.manual_seed(1)
    agent, task = agents.make("maml", IMAGES, network=noisy), batch_of_tasks(IMAGES)
    agents.save(agent, tmp_path / "agent.pt")
    again = agents.load(tmp_path / "agent.pt", network=noisy)
    answers = [each.eval().predict(each.adapt(task.support), task.query.x) for each in (agent, again)]
    assert torch.equal(*answers)
    assert sum(name.startswith("constant_") for name in agent.state_dict()) == 3


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        self.n += 1
        return self.linear(x) * self.n


def test_a_buffer_that_changes_is_refused():
    with pytest.raises(FewShotError, match="the network Counts changes its buffer n in a pass"):
        ModuleBody(Counts(), (3,))


class Wrong(nn.Module):
    def __init__(self, forward, has_norm):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2) if has_norm else None
        self.wrong = forward

    def forward(self, x):
        return self.wrong(self, x)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: nn.functional.dropout(m.linear(x)), "draws random numbers, for example in a dropout layer"),
        (lambda m, x: m.linear(x).unsqueeze(0), r"gives \(1, 2, 2\) for 2 items, but must give features \[2, F\]"),
        (lambda m, x: [m.linear(x)], r"gives list for 2 items, but must give features \[2, F\]"),
        (lambda m, x: m.linear(x[:, :2]), r"fails on items of shape \(3,\): RuntimeError"),
        (lambda m, x: m.norm(m.norm(m.linear(x))), "is used 2 times in a pass; each must be used once"),
        (lambda m, x: m.linear(x), "is used 0 times in a pass"),
    ],
)
def test_what_cannot_be_a_body_is_one_line(forward, message):
    with pytest.raises(FewShotError, match=message):
        ModuleBody(Wrong(forward, "is used" in message), (3,))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("conv5", r"unknown network 'conv5' \(did you mean 'conv4'\?\); known: auto, mlp, conv4, resnet12"),
        ("conv4", "agent.network is conv4, but items of shape .* are not images; use mlp"),
        ("no_such:f", "the network 'no_such:f' cannot be imported"),
        ("json:dumps", "gives a str, but must give a torch.nn.Module"),
        ("json:loads", "the network 'json:loads' cannot be built for items"),
    ],
)
def test_wrong_names_are_one_line(network, message):
    with pytest.raises(FewShotError, match=message):
        make_body(network, (3,), (4,), 4, 0)
    with pytest.raises(FewShotError, match="Flatten is not a class or a function"):
        agents.make("maml", IMAGES, network=nn.Flatten())
    with pytest.raises(FewShotError, match="is defined inside a function"):
        agents.make("maml", IMAGES, network=lambda in_shape: nn.Flatten())


def test_auto_is_what_it_was():
    vectors = TaskSpec("classification", (5,), 3, 3, (0, 1), (0, 2))
    assert type(agents.make("maml", vectors).body).__name__ == "MLPBody"
    assert type(agents.make("maml", IMAGES, padding=1).body).__name__ == "Conv4Body"
    assert type(agents.make("maml", IMAGES, network="mlp").body).__name__ == "MLPBody"
