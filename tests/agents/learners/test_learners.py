"""The field's learners: each against an independent plain loop in float64, finite differences, and a known limit."""

import pytest
import torch
import torch.nn.functional as F

import agents
from agents.imaml import conjugate_gradients
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError
from tests.helpers.agents import (
    IMAGES,
    SINE,
    agent_meta_loss,
    batch_of_tasks,
    gradients,
    make_agent,
    plain_loss,
    plain_meta_loss,
    relative_error,
)
from tests.helpers.learners import along_a_direction, plain_features, same, shaken

pytestmark = pytest.mark.usefixtures("float64")
KINDS = ["mlp", "conv"]


# Meta-SGD


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_meta_sgd_is_its_plain_loop(kind, first_order):
    agent = make_agent("meta-sgd", kind, inner_steps=3, first_order=first_order)
    assert agent.rule.rates.min() >= 0.005
    assert agent.rule.rates.max() <= 0.1
    episode, rates = batch_of_tasks(agent.spec), agent.rule.rates
    expected = plain_meta_loss(agent, episode, lambda t, theta, g, *_: theta - rates[0] * g, 3, first_order, None)
    same(agent, expected, episode)


def test_meta_sgd_with_one_rate_is_maml():
    maml = make_agent("maml", "mlp", inner_steps=2, inner_lr=0.07, inner_clip=None, task_clip=None)
    other = make_agent("meta-sgd", "mlp", inner_steps=2)
    other.initialization.data.copy_(maml.initialization)
    other.rule.rates.data.fill_(0.07)
    episode = batch_of_tasks(maml.spec)
    assert agent_meta_loss(other, episode).item() == pytest.approx(agent_meta_loss(maml, episode).item(), rel=1e-13)
    found = [gradients(agent_meta_loss(a, episode), a)["initialization"] for a in (maml, other)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


# ANIL and BOIL


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("name", "adapts"), [("boil", "body"), ("anil", "head")])
@pytest.mark.parametrize("kind", KINDS)
def test_anil_and_boil_are_maml_with_a_rate_of_zero(kind, name, adapts, first_order):
    """The plain loop adapts all weights, with a rate that is 0 in the head, or in the body."""
    settings = {"inner_steps": 3, "inner_lr": 0.1, "first_order": first_order, "inner_clip": None, "task_clip": None}
    agent = make_agent(name, kind, **settings)
    maml = make_agent("maml", kind, **settings)
    if name == "anil":
        theta = torch.cat([agent.encoder.weights, agent.initialization], 1)
        n_body = agent.encoder.weights.shape[1]
    else:
        theta, n_body = agent.initialization, agent.net.n_body
    rate = torch.full((theta.shape[1],), 0.1)
    rate[n_body:] = 0.1 if adapts == "head" else 0
    rate[:n_body] = 0.1 if adapts == "body" else 0
    episode = batch_of_tasks(agent.spec)
    maml.__dict__["initialization"] = theta  # the plain loop starts from it
    maml._parameters.pop("initialization")
    expected = plain_meta_loss(maml, episode, lambda t, theta, g, *_: theta - rate * g, 3, first_order, None)
    same(agent, expected, episode)


def test_boil_leaves_the_head_alone():
    agent = make_agent("boil", "conv", inner_steps=2).eval()
    episode = batch_of_tasks(agent.spec)
    adapted = agent.adapt(episode.support).params
    start, n_body = agent.initialization.expand_as(adapted), agent.net.n_body
    assert torch.equal(adapted[:, n_body:], start[:, n_body:])
    assert not torch.allclose(adapted[:, :n_body], start[:, :n_body])


# Reptile


def plain_reptile(agent, task, b, steps, lr, batch):
    """theta_T of one task: torch's own Adam with beta1 = 0, minibatches of the support in turn."""
    theta = agent.initialization[0].detach().clone().requires_grad_()
    adam = torch.optim.Adam([theta], lr=lr, betas=(0.0, 0.999))
    size = task.support.x.shape[1]
    for t in range(steps):
        rows = [(t * batch + i) % size for i in range(batch)]
        part = Split(task.support.x[:, rows], task.support.y[:, rows])
        adam.zero_grad()
        plain_loss(agent.spec, theta, part, b).backward()
        adam.step()
    return theta.detach()


@pytest.mark.parametrize("batch", [4, None])
@pytest.mark.parametrize("kind", KINDS)
def test_reptiles_meta_gradient_is_the_way_of_torchs_adam(kind, batch):
    agent = make_agent("reptile", kind, inner_steps=5, inner_lr=0.02, inner_batch=batch, meta_batch=2)
    episode = batch_of_tasks(agent.spec)
    ends = [plain_reptile(agent, episode, b, 5, 0.02, batch or episode.support.x.shape[1]) for b in range(2)]
    start = agent.initialization.detach()[0].clone()
    adapted = agent.adapt(episode.support)
    close = 1e-10 if kind == "mlp" else 1e-8  # biases below a normalization: no gradient, over a root that is as small
    torch.testing.assert_close(adapted.params, torch.stack(ends), rtol=1e-9, atol=close)
    agent.outer.add(adapted, agent.predict(adapted, episode.query.x), episode.query.y)
    torch.testing.assert_close(agent.initialization.grad[0], start - torch.stack(ends).mean(0), rtol=1e-9, atol=close)
    agent.outer.finish()  # epsilon 1: the mean of where the tasks ended
    torch.testing.assert_close(agent.initialization.detach()[0], torch.stack(ends).mean(0), rtol=1e-9, atol=close)


def test_reptiles_steps_fall_linearly_and_resume_where_they_were():
    agent = make_agent("reptile", "mlp", meta_batch=1, anneal_steps=4, outer_lr=0.8)
    taken = []
    for i in range(5):
        if i == 2:
            twin = make_agent("reptile", "mlp", meta_batch=1, anneal_steps=4, outer_lr=0.8)
            twin.load_state(agent.state())
            agent = twin
        agent.initialization.grad = torch.ones_like(agent.initialization)
        before = agent.initialization.detach().clone()
        agent.outer.optimizer.step()
        taken.append(float((before - agent.initialization.detach()).mean()))
    assert taken == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_the_query_plays_no_part_in_reptile():
    agent = make_agent("reptile", "mlp", inner_steps=2)
    one = batch_of_tasks(agent.spec)
    other = Episode(one.support, Split(one.query.x + 1, one.query.y - 3))
    found = []
    for episode in (one, other):
        adapted = agent.adapt(episode.support)
        agent.outer.add(adapted, agent.predict(adapted, episode.query.x), episode.query.y)
        found.append(agent.initialization.grad.clone())
        agent.outer.discard()
    assert torch.equal(*found)


# iMAML


def test_imamls_gradient_is_that_through_many_steps_on_a_quadratic():
    """A linear model: the inner problem is a quadratic, so that enough steps reach its one minimum."""
    spec = TaskSpec("regression", (3,), 1, 1, (-1, 1), (-1, 1))
    agent = agents.make("imaml", spec, network="mlp", hidden=(4,), body="frozen", inner_steps=400, inner_lr=0.2,
                        proximity=0.7, cg_steps=20, damping=0.0).double().train()  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    split = [Split(torch.rand(2, n, 3, generator=generator), torch.rand(2, n, 1, generator=generator)) for n in (6, 5)]
    episode = Episode(*split)
    features = [agent.encoder.features(s.x, None).detach() for s in split]
    theta = agent.initialization.detach()[0].clone().requires_grad_()
    total = 0
    for b in range(2):
        phi = theta * 1.0
        for _ in range(400):
            w, c = phi[:4], phi[4]
            loss = F.mse_loss(features[0][b] @ w + c, split[0].y[b, :, 0]) + 0.35 * ((phi - theta) ** 2).sum()
            (g,) = torch.autograd.grad(loss, phi, create_graph=True)
            phi = phi - 0.2 * g
        total = total + F.mse_loss(features[1][b] @ phi[:4] + phi[4], split[1].y[b, :, 0])
    (expected,) = torch.autograd.grad(total, theta)
    adapted = agent.adapt(episode.support)
    losses = agent.meta_gradient(adapted, agent.predict(adapted, episode.query.x), episode.query.y)
    assert losses.sum().item() == pytest.approx(total.item(), rel=1e-10)
    torch.testing.assert_close(agent.initialization.grad[0], expected, rtol=1e-8, atol=1e-10)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_imamls_inner_loop_and_gradient_are_those_of_a_plain_loop(kind):
    """phi by plain steps; the gradient with the whole Hessian and as many steps of conjugate gradients, by hand."""
    agent = make_agent("imaml", kind, inner_steps=3, inner_lr=0.05, proximity=2.0, cg_steps=3, damping=1.5)
    episode = batch_of_tasks(agent.spec)
    theta, expected, total = agent.initialization.detach()[0], 0, 0
    for b in range(2):
        phi = theta.clone()
        for _ in range(3):
            leaf = phi.clone().requires_grad_()
            (g,) = torch.autograd.grad(plain_loss(agent.spec, leaf, episode.support, b), leaf)
            phi = phi - 0.05 * (g + 2.0 * (phi - theta))
        hessian = torch.autograd.functional.hessian(lambda p, b=b: plain_loss(agent.spec, p, episode.support, b), phi)
        leaf = phi.clone().requires_grad_()
        loss = plain_loss(agent.spec, leaf, episode.query, b)
        (v,) = torch.autograd.grad(loss, leaf)
        matrix = torch.eye(len(phi)) + hessian / (2.0 + 1.5)
        u, r = torch.zeros_like(v), v.clone()
        p = r.clone()
        for _ in range(3):
            alpha = (r @ r) / (p @ matrix @ p)
            u, after = u + alpha * p, r - alpha * (matrix @ p)
            p = after + (after @ after) / (r @ r) * p
            r = after
        expected, total = expected + u, total + loss
    adapted = agent.adapt(episode.support)
    losses = agent.meta_gradient(adapted, agent.predict(adapted, episode.query.x), episode.query.y)
    assert losses.sum().item() == pytest.approx(total.item(), rel=1e-10)
    torch.testing.assert_close(agent.initialization.grad[0], expected, rtol=1e-7, atol=1e-9)


def test_conjugate_gradients_solve_and_stay_where_they_are_done():
    generator = torch.Generator().manual_seed(1)
    root = torch.rand(3, 6, 6, generator=generator)
    matrix, v = root @ root.mT + torch.eye(6), torch.rand(3, 6, generator=generator)
    v[1] = 0
    u = conjugate_gradients(lambda w: (matrix @ w.unsqueeze(-1)).squeeze(-1), v, 40)
    torch.testing.assert_close((matrix @ u.unsqueeze(-1)).squeeze(-1), v, rtol=1e-9, atol=1e-10)
    assert torch.equal(u[1], torch.zeros(6))


# R2-D2


@pytest.mark.parametrize("kind", KINDS)
def test_r2d2_is_ridge_regression_on_plain_features(kind):
    agent = make_agent("r2d2", kind, first_ridge=0.7)
    with torch.no_grad():
        agent.scale.fill_(1.3)
        agent.shift.fill_(-0.2)
    episode, spec, n = batch_of_tasks(agent.spec), agent.spec, agent.spec.n_outputs
    total = 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        z, q = (torch.cat([h, torch.ones(len(h), 1)], 1) for h in (z, q))
        y = episode.support.y[b]
        y = F.one_hot(y, n).double() if spec.kind == "classification" else y
        w = torch.linalg.inv(z.T @ z + agent.log_ridge.exp()[0] * torch.eye(z.shape[1])) @ z.T @ y  # the other form
        total = total + spec.loss((agent.scale[0] * (q @ w) + agent.shift[0])[None], episode.query.y[b : b + 1]).sum()
    want, got = gradients(total, agent), gradients(agent_meta_loss(agent, episode), agent)
    assert agent_meta_loss(agent, episode).item() == pytest.approx(total.item(), rel=1e-9)
    assert relative_error(got, want) < 1e-7


# Matching networks


def test_matching_is_attention_over_plain_features():
    agent = make_agent("matching", "conv", scale=3.0)
    episode = batch_of_tasks(IMAGES)
    total = 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        for i in range(len(q)):
            weight = torch.stack([3.0 * F.cosine_similarity(q[i], z[s], dim=0) for s in range(len(z))]).softmax(0)
            p = sum(weight[s] for s in range(len(z)) if episode.support.y[b, s] == episode.query.y[b, i])
            total = total - p.log() / len(q)
    same(agent, total, episode, 1e-7)


# All of them


@pytest.mark.parametrize(("name", "kind"), [
    *((name, kind) for name in ("meta-sgd", "anil", "boil", "r2d2") for kind in KINDS), ("matching", "conv"),
])  # fmt: skip
def test_meta_gradients_are_seen_by_finite_differences(name, kind):
    settings = {"inner_steps": 2, "inner_clip": None, "task_clip": None} if name in ("anil", "boil") else {}
    agent = make_agent(name, kind, **settings)
    episode = batch_of_tasks(agent.spec)
    by_gradient, by_difference = along_a_direction(agent, episode)
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_what_is_not_defined_on_sine_says_so_in_one_line():
    with pytest.raises(FewShotError, match=r"^matching networks mix labels, and regression has none; try"):
        agents.make("matching", SINE)


def test_what_cannot_be_chosen_is_refused():
    for name, setting in (
        ("boil", {"body": "learned"}),
        ("imaml", {"first_order": True}),
        ("reptile", {"body": "learned"}),
    ):
        with pytest.raises(FewShotError, match=next(iter(setting))):
            agents.make(name, SINE, **setting)


# Meta-Curvature


def curved(agent, g):
    """The gradient of one task, tensor by tensor, with numpy-like products along the axes."""
    parts, start = [], 0
    for i, shape in enumerate(agent.net.shapes.values()):
        n = torch.Size(shape).numel()
        part = g[start : start + n].view(shape)
        start += n
        if len(shape) > 1:
            m = agent.rule.matrices
            part = torch.tensordot(m[f"{i}_0"][0], part, dims=([1], [0]))
            part = torch.tensordot(m[f"{i}_1"][0], part.transpose(0, 1), dims=([1], [0])).transpose(0, 1)
            if len(shape) == 4:
                part = part.flatten(2) @ m[f"{i}_2"][0].T
        parts.append(part.flatten())
    return torch.cat(parts)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_meta_curvature_is_its_plain_loop(kind, first_order):
    settings = {"inner_steps": 2, "inner_lr": 0.05, "first_order": first_order, "inner_clip": None, "task_clip": None}
    agent = shaken(make_agent("meta-curvature", kind, **settings))
    episode = batch_of_tasks(agent.spec)
    expected = plain_meta_loss(
        agent, episode, lambda t, theta, g, *_: theta - 0.05 * curved(agent, g), 2, first_order, None
    )
    same(agent, expected, episode)


# ALFA


def alfa_update(agent):
    rule = agent.rule

    def update(t, theta, g, loss, memory):
        layers = list(agent.net.layers.values())
        h = torch.stack([v[where].mean() for v in (g, theta) for where in layers])
        for weight, bias in zip(rule.weights, rule.biases, strict=True):
            h = torch.relu(h @ weight[0] + bias[0, 0])
        values = rule.base[0, t] * (h @ rule.last[0] + rule.last_bias[0, 0])
        parts = [values[len(layers) + i] * theta[where] - values[i] * g[where] for i, where in enumerate(layers)]
        return torch.cat(parts)

    return update


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_alfa_is_its_plain_loop(kind, first_order):
    settings = {"inner_steps": 3, "inner_lr": 0.05, "first_order": first_order, "inner_clip": None, "task_clip": None}
    agent = shaken(make_agent("alfa", kind, **settings), 0.05)
    episode = batch_of_tasks(agent.spec)
    same(agent, plain_meta_loss(agent, episode, alfa_update(agent), 3, first_order, None), episode)


@pytest.mark.parametrize("name", ["meta-curvature", "alfa"])
@pytest.mark.parametrize("kind", KINDS)
def test_as_they_begin_they_are_maml(kind, name):
    settings = {"inner_steps": 3, "inner_lr": 0.05, "eval_steps": 5}
    maml, other = make_agent("maml", kind, **settings), make_agent(name, kind, **settings)
    other.initialization.data.copy_(maml.initialization)
    episode = batch_of_tasks(maml.spec)
    for mode in (True, False):
        found = [a.train(mode).adapt(episode.support).params for a in (other, maml)]
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)
    maml.train()
    other.train()
    grads = [gradients(agent_meta_loss(a, episode), a)["initialization"] for a in (other, maml)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["meta-curvature", "alfa"])
@pytest.mark.parametrize("kind", KINDS)
def test_their_meta_gradients_are_seen_by_finite_differences(name, kind):
    agent = shaken(make_agent(name, kind, inner_steps=2, inner_lr=0.05, inner_clip=None, task_clip=None), 0.05)
    by_gradient, by_difference = along_a_direction(agent, batch_of_tasks(agent.spec))
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)
