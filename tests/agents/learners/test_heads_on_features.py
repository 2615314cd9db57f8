"""Relation network, LEO, linear probe and transductive fine-tuning against plain versions, one task at a time."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge

import agents
from agents.engine.noise import uniform_from
from agents.linear_probe import logistic_regression
from fewshot_env.episode import Split
from fewshot_env.errors import FewShotError
from tests.helpers.agents import (
    IMAGES,
    SINE,
    batch_of_tasks,
    gradients,
    make_agent,
    plain_forward,
    plain_loss,
    relative_error,
)
from tests.helpers.learners import by_differences, meta_gradient, plain_features

pytestmark = pytest.mark.usefixtures("float64")


# Relation network


def plain_relation(agent, episode):
    """The summed squared errors, every pair of a class and a query item by itself."""
    g, total = agent.comparison, 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        y, errors = episode.support.y[b], []
        weight = torch.cat([g.of_mean.weight, g.of_item.weight], 1)
        for i in range(len(q)):
            for n in range(3):
                pair = torch.cat([z[y == n].mean(0), q[i]]).view(1, 6, 1, 1)
                h = F.conv2d(pair, weight, g.of_mean.bias)
                for j, norm in enumerate(g.norms):
                    h = h if j == 0 else F.conv2d(h, g.second.weight, g.second.bias)
                    h = F.layer_norm(h, h.shape[1:]) * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
                    h = F.relu(h)
                r = torch.sigmoid(g.score(F.relu(g.hidden(h.flatten()))))
                errors.append((r - float(episode.query.y[b, i] == n)) ** 2)
        total = total + torch.stack(errors).mean()
    return total


def test_relation_is_every_pair_by_itself():
    agent, episode = make_agent("relation", "conv", channels=5, units=4), batch_of_tasks(IMAGES)
    expected = plain_relation(agent, episode)
    losses, found = meta_gradient(agent, episode)
    assert losses.sum().item() == pytest.approx(expected.item(), rel=1e-9)
    assert relative_error(found, gradients(expected, agent)) < 1e-7
    by_gradient, by_difference = by_differences(agent, lambda: plain_relation(agent, episode), found)
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_relation_compares_maps_with_convolutions():
    """As the published one: 3x3 convolutions on both maps side by side, each pooled."""
    agent = agents.make("relation", agents_spec(84), filters=3, padding=1, channels=4, units=2).double()
    g = agent.comparison
    assert g.of_mean.weight.shape == (4, 3, 3, 3)
    means, items = torch.randn(1, 2, 3 * 25), torch.randn(1, 3, 3 * 25)
    weight = torch.cat([g.of_mean.weight, g.of_item.weight], 1)
    expected = torch.zeros(1, 3, 2)
    for i in range(3):
        for n in range(2):
            h = torch.cat([means[0, n].view(3, 5, 5), items[0, i].view(3, 5, 5)])[None]
            h = F.conv2d(h, weight, g.of_mean.bias, padding=1)
            h = F.max_pool2d(F.relu(g.norms[0](h)), 2)
            h = F.max_pool2d(F.relu(g.norms[1](g.second(h))), 2)
            expected[0, i, n] = g.score(F.relu(g.hidden(h.flatten())))
    torch.testing.assert_close(g(means, items), expected)


def agents_spec(size):
    from fewshot_env.episode import TaskSpec

    return TaskSpec("classification", (3, size, size), 2, 5, (0, 1), (0, 1))


# LEO


def plain_leo(agent, episode, settings):
    """The summed losses with all penalties, task by task, with loops over classes and pairs."""
    c, noise = settings, uniform_from(episode.support.x, 3 * (4 + 3))
    total = 0
    for b in range(2):
        z, q = (F.normalize(plain_features(agent, s.x[b]), dim=1) for s in (episode.support, episode.query))
        y = episode.support.y[b]
        normal = torch.special.ndtri(noise[b])
        eps, eps2 = normal[:12].view(3, 4), normal[12:].view(3, 3)
        e = z @ agent.code.weight.T
        means, deviations = [], []
        for n in range(3):
            pairs = [agent.relation(torch.cat([e[i], e[j]])) for i in range(len(z)) if y[i] == n for j in range(len(z))]
            of_class = torch.stack(pairs).mean(0)
            means.append(of_class[:4])
            deviations.append(of_class[4:].exp())
        mean, deviation = torch.stack(means), torch.stack(deviations)
        code = first = mean + deviation * eps

        def classifier(code, eps2=eps2):
            both = code @ agent.decoder.weight.T
            return both[:, :3] + torch.relu(both[:, 3:].exp() - 1 + math.sqrt(2 / (3 + 3))) * eps2

        for _ in range(c["inner_steps"]):
            (g,) = torch.autograd.grad(F.cross_entropy(z @ classifier(code).T, y), code, create_graph=True)
            code = code - agent.rates[0] * g
        w = classifier(code)
        for _ in range(c["finetune_steps"]):
            (g,) = torch.autograd.grad(F.cross_entropy(z @ w.T, y), w, create_graph=True)
            w = w - agent.rates[1] * g
        p, q_dist = torch.distributions.Normal(torch.zeros(3, 4), 1.0), torch.distributions.Normal(mean, deviation)
        kl = torch.distributions.kl_divergence(q_dist, p).sum(1).mean()
        matrices = [agent.code.weight, *agent.relation.parameters(), agent.decoder.weight]
        columns = agent.decoder.weight
        cosines = torch.stack([
            torch.stack([F.cosine_similarity(columns[:, i], columns[:, j], dim=0) for j in range(4)]) for i in range(4)
        ])  # fmt: skip
        total = total + F.cross_entropy(q @ w.T, episode.query.y[b]) + c["kl_weight"] * kl
        total = total + c["stay_weight"] * ((code.detach() - first) ** 2).sum() / 3
        total = total + c["l2_weight"] * sum(0.5 * (m**2).sum() for m in matrices)
        total = total + c["orthogonality"] * ((cosines - torch.eye(4)) ** 2).mean()
    return total


def test_leo_is_its_plain_loop():
    settings = {"inner_steps": 2, "finetune_steps": 2, "inner_lr": 0.5, "finetune_lr": 0.1, "kl_weight": 0.2,
                "stay_weight": 0.3, "l2_weight": 0.01, "orthogonality": 0.4}  # fmt: skip
    agent, episode = make_agent("leo", "conv", latents=4, **settings), batch_of_tasks(IMAGES)
    expected = plain_leo(agent, episode, settings)
    _, found = meta_gradient(agent, episode)
    assert relative_error(found, gradients(expected, agent)) < 1e-7
    assert all(g.abs().max() > 0 for g in found.values())


def test_leo_is_seen_by_finite_differences():
    """Without the way's penalty, whose end is a constant."""
    settings = {"inner_steps": 2, "finetune_steps": 1, "inner_lr": 0.5, "finetune_lr": 0.1, "kl_weight": 0.2,
                "stay_weight": 0.0, "l2_weight": 0.01, "orthogonality": 0.4}  # fmt: skip
    agent, episode = make_agent("leo", "conv", latents=4, **settings), batch_of_tasks(IMAGES)
    _, found = meta_gradient(agent, episode)

    def total():
        with torch.enable_grad():
            return plain_leo(agent, episode, settings)

    by_gradient, by_difference = by_differences(agent, total, found)
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_leo_without_steps_answers_with_the_decoded_means():
    agent, episode = (
        make_agent("leo", "conv", latents=4, inner_steps=0, finetune_steps=0).eval(),
        batch_of_tasks(IMAGES),
    )
    adapted = agent.adapt(episode.support)
    items = agent.encode(episode.support)[0]
    mean = agent._encoded(Split(F.normalize(items.x, dim=-1), items.y))[..., :4]
    expected = agent.decoder(mean)[..., :3].flatten(1)
    torch.testing.assert_close(adapted.params[:, :9], expected.detach())


# Linear probe


@pytest.mark.parametrize(("size", "features", "penalty"), [(10, 4, 1.0), (10, 40, 1.0), (25, 64, 30.0)])
def test_logistic_regression_is_scikit_learns(size, features, penalty):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(size).remainder(5)
    z = torch.randn(size, features, generator=generator) + 0.4 * y.unsqueeze(1)
    w, b = logistic_regression(z, y, 5, penalty)
    theirs = LogisticRegression(C=penalty, tol=1e-12, solver="newton-cholesky").fit(z.numpy(), y.numpy())
    np.testing.assert_allclose(w.numpy(), theirs.coef_, rtol=0, atol=1e-5)
    np.testing.assert_allclose((b - b.mean()).numpy(), theirs.intercept_ - theirs.intercept_.mean(), rtol=0, atol=1e-5)


def test_classes_without_items_change_nothing_for_the_others():
    """And get no weights and a low b: the optimum is that of the classes that are there."""
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(12, 6, generator=generator), torch.arange(12).remainder(3)
    w, b = logistic_regression(z, y, 3, 1.0)
    more_w, more_b = logistic_regression(z, y * 2, 7, 1.0)
    torch.testing.assert_close(more_w[[0, 2, 4]], w)
    torch.testing.assert_close(more_b[[0, 2, 4]], b)
    assert not more_w[[1, 3, 5, 6]].any()
    assert (z @ more_w.T + more_b).softmax(1)[:, [1, 3, 5, 6]].max() < 1e-6


def test_the_probe_reads_normalized_plain_features():
    agent, episode = make_agent("linear-probe", "conv", bn="transductive", penalty=2.0), batch_of_tasks(IMAGES)
    body = agent.weights[: agent.net.n_body]
    head = torch.cat([torch.eye(3).flatten(), torch.zeros(3)])
    agent.eval()
    answers = agent.predict(agent.adapt(episode.support), episode.query.x)
    for b in range(2):
        z, q = (F.normalize(plain_forward(IMAGES, torch.cat([body, head]), s.x[b]).detach(), dim=1)
                for s in (episode.support, episode.query))  # fmt: skip
        theirs = LogisticRegression(C=2.0, tol=1e-12, max_iter=100_000).fit(z.numpy(), episode.support.y[b].numpy())
        expected = torch.from_numpy(theirs.predict_log_proba(q.numpy()))
        torch.testing.assert_close(answers[b].log_softmax(-1), expected, rtol=0, atol=1e-5)


def test_the_probe_of_a_regression_is_scikit_learns_ridge():
    agent, episode = make_agent("linear-probe", "mlp", penalty=2.0, normalize=False).eval(), batch_of_tasks(SINE)
    answers = agent.predict(agent.adapt(episode.support), episode.query.x)
    for b in range(2):
        z, q = (agent.net.features(agent.weights[None].detach(), s.x[b : b + 1])[0] for s in
                (episode.support, episode.query))  # fmt: skip
        theirs = Ridge(alpha=1 / 4).fit(z.numpy(), episode.support.y[b].numpy())
        expected = torch.from_numpy(theirs.predict(q.numpy())).view(-1, 1)
        torch.testing.assert_close(answers[b], expected, rtol=1e-8, atol=1e-10)


# Transductive fine-tuning


@pytest.mark.parametrize("entropy", [0.0, 0.7])
def test_transductive_finetuning_is_plain_adam_on_both_sets(entropy):
    agent = make_agent("transductive-finetuning", "conv", bn="transductive", adapt_steps=4, adapt_lr=0.01,
                       entropy=entropy).eval()  # fmt: skip
    episode, n_body = batch_of_tasks(IMAGES), agent.net.n_body
    answers = agent.predict(agent.adapt(episode.support), episode.query.x)
    body = agent.weights[:n_body].detach()
    for b in range(2):
        y = episode.support.y[b]
        identity = torch.cat([torch.eye(3).flatten(), torch.zeros(3)])
        z = F.normalize(plain_forward(IMAGES, torch.cat([body, identity]), episode.support.x[b]), dim=1)
        means = F.normalize(torch.stack([z[y == n].mean(0) for n in range(3)]), dim=1)
        theta = torch.cat([body, means.flatten(), torch.zeros(3)]).requires_grad_()
        adam = torch.optim.Adam([theta], lr=0.01)
        for _ in range(4):
            adam.zero_grad()
            p = plain_forward(IMAGES, theta, episode.query.x[b]).softmax(1)
            (plain_loss(IMAGES, theta, episode.support, b) - entropy * (p * p.log()).sum(1).mean()).backward()
            adam.step()
        expected = plain_forward(IMAGES, theta, episode.query.x[b]).detach()
        torch.testing.assert_close(answers[b], expected, rtol=1e-5, atol=1e-6)  # Adam divides tiny numbers by tiny ones


def test_the_query_decides_only_where_its_entropy_counts():
    episode = batch_of_tasks(IMAGES)
    for entropy, same in ((0.0, True), (1.0, False)):
        agent = make_agent("transductive-finetuning", "conv", bn="support", adapt_lr=0.01, entropy=entropy).eval()
        adapted = agent.adapt(episode.support)
        whole, part = agent.predict(adapted, episode.query.x)[:, :3], agent.predict(adapted, episode.query.x[:, :3])
        assert torch.allclose(whole, part) == same
    assert not agent.answers_alone


@pytest.mark.parametrize(("name", "words"), [
    ("relation", "relation networks compare with classes"),
    ("leo", "LEO decodes a classifier"),
    ("transductive-finetuning", "transductive fine-tuning lowers the entropy of classes"),
])  # fmt: skip
def test_what_needs_classes_says_so_in_one_line(name, words):
    with pytest.raises(FewShotError, match=f"^{words}, and regression has n"):
        agents.make(name, SINE)


def test_no_support_no_query_and_one_class():
    """The edges of the data: nothing to learn from, nothing asked, a class without items."""
    episode = batch_of_tasks(IMAGES)
    one_class = Split(episode.support.x, torch.zeros_like(episode.support.y))
    for name in ("relation", "leo", "metaoptnet", "linear-probe", "transductive-finetuning", "op-lstm"):
        agent = make_agent(name, "conv").eval()
        for support in (episode.support.empty(), one_class):
            assert agent.predict(agent.adapt(support), episode.query.x).isfinite().all(), name
        assert agent.predict(agent.adapt(episode.support), episode.query.x[:, :0]).shape == (2, 0, 3), name
