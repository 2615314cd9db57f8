"""CAVIA, T-net, MT-net and SAP: each against a plain loop that puts its parts into the forward pass, and its limits."""

import pytest
import torch
import torch.nn.functional as F

from agents.engine.noise import uniform_from
from fewshot_env.errors import FewShotError
from tests.helpers.agents import (
    IMAGES,
    agent_meta_loss,
    batch_of_tasks,
    gradients,
    make_agent,
    plain_forward,
    plain_loss,
)
from tests.helpers.learners import along_a_direction, same, shaken

pytestmark = pytest.mark.usefixtures("float64")
KINDS = ["mlp", "conv"]


def loss_of(spec, outputs, y):
    return F.mse_loss(outputs, y) if spec.kind == "regression" else F.cross_entropy(outputs, y)


def descend(loss, at, steps, lr, first_order):
    """Plain descent on tensors `at` that adapt."""
    for _ in range(steps):
        grads = torch.autograd.grad(loss(at), at, create_graph=not first_order)
        at = [value - lr * g for value, g in zip(at, grads, strict=True)]
    return at


def along_channels(z, matrix):
    """matrix times the channels of z, [S, C] or [S, C, H, W]."""
    return torch.einsum("ij,sj...->si...", matrix, z)


def wide(vector, z):
    return vector.view(-1, *[1] * (z.dim() - 2))


# CAVIA


def modulated(agent, theta, phi):
    """The flat weights of one task with a context: by place in the vector, for the two small networks."""
    effect = phi @ agent.rule.effect[0]
    if agent.spec.kind == "regression":
        return torch.cat([theta[:6], theta[6:12] + effect, theta[12:]])
    parts, start, used = [], 0, 0
    for i in range(4):
        n = 3 * (2 if i == 0 else 3) * 9 + 3
        parts.append(theta[start : start + n])
        scale, shift = theta[start + n : start + n + 3], theta[start + n + 3 : start + n + 6]
        start += n + 6
        if agent.config.modulated in (None, i + 1):
            factor, offset = 1 + effect[used : used + 3], effect[used + 3 : used + 6]
            scale, shift, used = factor * scale, factor * shift + offset, used + 6
        parts += [scale, shift]
    assert used == (0 if not len(effect) else len(effect))
    return torch.cat([*parts, theta[start:]])


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("kind", "modulated_layer"), [("mlp", None), ("conv", None), ("conv", 3)])
def test_cavia_is_its_plain_loop(kind, first_order, modulated_layer):
    settings = {"context": 4, "inner_steps": 3, "inner_lr": 0.5, "modulated": modulated_layer}
    agent = make_agent("cavia", kind, first_order=first_order, **settings)
    episode, theta, total = batch_of_tasks(agent.spec), agent.initialization[0], 0
    for b in range(2):

        def loss(at, b=b):
            return plain_loss(agent.spec, modulated(agent, theta, at[0]), episode.support, b)

        (phi,) = descend(loss, [torch.zeros(4, requires_grad=True)], 3, 0.5, first_order)
        total = total + plain_loss(agent.spec, modulated(agent, theta, phi), episode.query, b)
    same(agent, total, episode)


def test_cavia_without_a_rate_is_its_network():
    agent = make_agent("cavia", "conv", inner_lr=1e-300)
    episode = batch_of_tasks(agent.spec)
    adapted = agent.adapt(episode.support).params
    torch.testing.assert_close(adapted, agent.initialization.expand_as(adapted), rtol=1e-14, atol=1e-280)


def test_cavia_acts_on_the_first_layer_of_any_network_without_normalization():
    agent = make_agent("cavia", "conv", network="mlp", hidden=(4,), context=3, inner_steps=2)
    assert agent.rule.effect.shape == (1, 3, 4)
    with pytest.raises(FewShotError, match="has 4 batch normalizations with scales"):
        make_agent("cavia", "conv", modulated=5)


# T-net and MT-net


def plain_maps(agent, episode, steps, lr):
    """The summed meta-loss of T-net or MT-net: maps in the forward pass, masks by row."""
    spec, rule, total = agent.spec, agent.rule, 0
    for b in range(2):
        factors = 1
        if rule.logits is not None:
            noise = uniform_from(episode.support.x, rule.logits.shape[1])[b]
            soft = torch.sigmoid(rule.logits[0] + torch.log(noise / (1 - noise)))
            rows = ((soft > 0.5).double() - soft).detach() + soft
            factors, start = [], 0
            for name, shape in agent.net.shapes.items():
                if len(shape) > 1:
                    of_layer = rows[start : start + shape[0]]
                    start += shape[0]
                    factors.append(of_layer.repeat_interleave(torch.Size(shape[1:]).numel()))
                else:
                    affine = name.endswith(("scale", "shift"))
                    factors.append(torch.ones(shape) if affine else of_layer)
            factors = torch.cat(factors)

        def run(theta, split, b=b):
            outputs = plain_forward(spec, theta, split.x[b], lambda i, z: along_channels(z, rule.maps[i][0]))
            return loss_of(spec, outputs, split.y[b])

        theta = agent.initialization[0] * 1.0
        for _ in range(steps):
            (g,) = torch.autograd.grad(run(theta, episode.support), theta, create_graph=True)
            theta = theta - lr * factors * g
        total = total + run(theta, episode.query)
    return total


@pytest.mark.parametrize("name", ["t-net", "mt-net"])
@pytest.mark.parametrize("kind", KINDS)
def test_t_net_and_mt_net_are_their_plain_loop(kind, name):
    agent = shaken(make_agent(name, kind, inner_steps=3, inner_lr=0.05, inner_clip=None, task_clip=None), 0.3)
    episode = batch_of_tasks(agent.spec)
    if name == "mt-net":
        drawn = agent.rule.mask(episode.support)
        assert 0 < drawn.mean() < 1
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}
        assert not torch.equal(drawn[0], drawn[1])  # every task has its own
    same(agent, plain_maps(agent, episode, 3, 0.05), episode, 1e-8)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_t_net_with_identities_is_maml(kind, first_order):
    settings = {"inner_steps": 3, "inner_lr": 0.05, "eval_steps": 5, "first_order": first_order}
    maml, other = make_agent("maml", kind, **settings), make_agent("t-net", kind, **settings)
    other.initialization.data.copy_(maml.initialization)
    episode = batch_of_tasks(maml.spec)
    found = [a.eval().adapt(episode.support).params for a in (other, maml)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)
    grads = [gradients(agent_meta_loss(a.train(), episode), a)["initialization"] for a in (other, maml)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-11)


def test_rows_that_never_adapt_stay_and_rows_that_always_do_are_t_nets():
    agent, other = make_agent("mt-net", "mlp", inner_steps=2), make_agent("t-net", "mlp", inner_steps=2)
    other.initialization.data.copy_(agent.initialization)
    episode = batch_of_tasks(agent.spec)
    agent.rule.logits.data.fill_(-100.0)
    stays = agent.adapt(episode.support).params
    torch.testing.assert_close(stays, agent.initialization.expand_as(stays), rtol=1e-14, atol=1e-14)
    agent.rule.logits.data.fill_(100.0)
    torch.testing.assert_close(agent.adapt(episode.support).params, other.adapt(episode.support).params)


# SAP


def plain_operations(agent, episode, steps, lr, first_order):
    """The summed meta-loss of SAP: operations on every layer's outputs."""
    spec, rule, total = agent.spec, agent.rule, 0
    theta = agent.initialization[0]

    def behind(at):
        position = [0]

        def take(*shape):
            n = torch.Size(shape).numel()
            position[0] += n
            return at[position[0] - n : position[0]].view(shape)

        def between(layer, z):
            width, ranks = z.shape[1], [rank for rank in agent.config.ranks if rank < z.shape[1]]
            a, c = torch.softmax(rule.strengths[layer][0], 0), torch.softmax(rule.shifts[0, layer], 0)
            s, v, m = take(1), take(width), take(width, width)
            out = a[0] * z + a[1] * s * z + a[2] * wide(v, z) * z + a[3] * along_channels(z, m)
            if ranks:
                left, sigma, right = take(width, sum(ranks)), take(sum(ranks)), take(width, sum(ranks))
                start = 0
                for k, rank in enumerate(ranks):
                    part = slice(start, start + rank)
                    product = left[:, part] @ torch.diag(sigma[part]) @ right[:, part].T
                    out, start = out + a[4 + k] * along_channels(z, product), start + rank
            t, u = take(1), take(width)
            return out + c[1] * t + c[2] * wide(u, z)

        return between

    for b in range(2):

        def loss(at, b=b):
            return loss_of(spec, plain_forward(spec, theta, episode.support.x[b], behind(at[0])), episode.support.y[b])

        (at,) = descend(loss, [rule.operations[0]], steps, lr, first_order)
        outputs = plain_forward(spec, theta, episode.query.x[b], behind(at))
        total = total + loss_of(spec, outputs, episode.query.y[b])
    return total


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sap_is_its_plain_loop(kind, first_order):
    agent = make_agent("sap", kind, inner_steps=2, inner_lr=0.05, ranks=(1, 2, 4), first_order=first_order)
    agent = shaken(agent, 0.3)
    episode = batch_of_tasks(agent.spec)
    same(agent, plain_operations(agent, episode, 2, 0.05, first_order), episode, 1e-8)


def test_sap_with_all_strength_on_the_identity_does_not_adapt():
    agent = make_agent("sap", "mlp", inner_steps=3)
    with torch.no_grad():
        for strengths in agent.rule.strengths:
            strengths[:, 0] = 200.0
        agent.rule.shifts[..., 0] = 200.0
    adapted = agent.adapt(batch_of_tasks(agent.spec).support).params
    torch.testing.assert_close(adapted, agent.initialization.expand_as(adapted), rtol=1e-12, atol=1e-14)


# All of them


@pytest.mark.parametrize("name", ["cavia", "t-net", "sap"])
@pytest.mark.parametrize("kind", KINDS)
def test_their_meta_gradients_are_seen_by_finite_differences(name, kind):
    settings = {"context": 4} if name == "cavia" else {}
    settings |= {"inner_clip": None, "task_clip": None} if name == "t-net" else {}
    agent = shaken(make_agent(name, kind, inner_steps=2, inner_lr=0.05, **settings), 0.1)
    agent.initialization.data += 0.03  # no unit at its kink, as one with zero inputs and a zero bias is
    by_gradient, by_difference = along_a_direction(agent, batch_of_tasks(agent.spec))
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_random_numbers_are_a_function_of_each_tasks_items():
    items = batch_of_tasks(IMAGES, tasks=3).support.x
    drawn = uniform_from(items, 20_000)
    assert torch.equal(drawn[1:2], uniform_from(items[1:2], 20_000))
    assert torch.equal(drawn[:, :5], uniform_from(items, 5))
    assert drawn.min() > 0
    assert drawn.max() < 1
    torch.testing.assert_close(drawn.mean(1), torch.full((3,), 0.5), rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.var(1), torch.full((3,), 1 / 12), rtol=0.03, atol=0)
    assert torch.corrcoef(drawn).triu(1).abs().max() < 0.03
    changed = items.clone()
    changed[0, 0, 0, 0, 0] += 1e-12
    assert not torch.equal(uniform_from(changed, 5)[0], drawn[0, :5])
