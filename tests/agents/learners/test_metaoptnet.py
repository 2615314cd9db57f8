"""MetaOptNet: its support vector machine against scikit-learn's, its gradient at the optimum, and ridge = R2-D2."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.svm import LinearSVC
from torch import nn

import agents
from agents.engine.svm import svm_dual
from fewshot_env.errors import FewShotError
from tests.helpers.agents import (
    IMAGES,
    SINE,
    agent_meta_loss,
    batch_of_tasks,
    gradients,
    make_agent,
    relative_error,
)
from tests.helpers.learners import along_a_direction, plain_features, same

pytestmark = pytest.mark.usefixtures("float64")


def items(size, features, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(size).remainder(classes)
    return torch.randn(size, features, generator=generator) + 0.3 * y.unsqueeze(1), y


@pytest.mark.parametrize(("size", "features", "classes", "penalty"), [
    (5, 64, 5, 0.1), (25, 40, 5, 0.1), (25, 40, 5, 10.0), (12, 30, 3, 1.0), (20, 4, 2, 0.1),
])  # fmt: skip
def test_the_support_vector_machine_is_scikit_learns(size, features, classes, penalty):
    z, y = items(size, features, classes)
    products = z @ z.T + 1e-10 * torch.eye(size)
    ours = (svm_dual(products[None], y[None], classes, penalty)[0].T @ z).numpy()
    theirs = LinearSVC(multi_class="crammer_singer", C=penalty, fit_intercept=False, tol=1e-11, max_iter=3_000_000)
    coefficients = theirs.fit(z.numpy(), y.numpy()).coef_
    if classes == 2:  # scikit-learn gives one row: the difference of the two
        ours = ours[1:] - ours[:1]
    np.testing.assert_allclose(ours, coefficients, rtol=0, atol=1e-7 * np.abs(coefficients).max())


def test_it_satisfies_the_conditions_of_its_optimum():
    """Written anew: every item's weights lie in its simplex, and no allowed change of two entries lowers the dual."""
    z, y = items(20, 6, 4, seed=3)
    kernel, hot = z @ z.T + torch.eye(20), F.one_hot(y, 4).double()
    alpha = svm_dual(kernel[None], y[None], 4, 0.2)[0]
    torch.testing.assert_close(alpha.sum(1), torch.zeros(20), rtol=0, atol=1e-12)
    assert (alpha <= 0.2 * hot + 1e-12).all()

    def dual(a):
        return 0.5 * (a * (kernel @ a)).sum() - (hot * a).sum()

    best, moved = dual(alpha), 0
    for i in range(20):
        for down in range(4):
            for up in range(4):
                step = torch.zeros(20, 4)
                step[i, up], step[i, down] = 1e-5, -1e-5
                if up != down and (alpha + step <= 0.2 * hot + 1e-12).all():
                    moved += 1
                    assert dual(alpha + step) >= best
    assert moved > 20


def test_its_derivative_by_the_products_is_seen_by_finite_differences():
    z, y = items(15, 8, 3, seed=5)
    weights = torch.randn(15, 3, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(15, 8, generator=torch.Generator().manual_seed(2))

    def value(at):
        return (weights * svm_dual((at @ at.T + torch.eye(15))[None], y[None], 3, 0.1)[0]).sum()

    at = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(at), at)
    difference = (value(z + 1e-6 * direction) - value(z - 1e-6 * direction)) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-6)
    assert gradient.abs().max() > 1e-4


def test_a_diverged_network_gives_what_is_not_a_number():
    """And the tasks beside it keep theirs."""
    z, y = items(8, 6, 2)
    good = z @ z.T + torch.eye(8)
    found = svm_dual(torch.stack([good, torch.full((8, 8), torch.nan), good]), y.expand(3, -1), 2, 0.1)
    assert found[1].isnan().all()
    alone = svm_dual(good[None], y[None], 2, 0.1)[0]
    assert torch.equal(found[0], alone)
    assert torch.equal(found[2], alone)


def test_a_machine_that_is_not_solved_says_so(caplog):
    z, y = items(25, 5, 5)
    svm_dual((100 * z @ z.T + 1e-9 * torch.eye(25))[None], y[None], 5, 10.0)
    assert "1 tasks are not solved exactly; raise agent.smoothing" in caplog.text


@pytest.mark.parametrize(("name", "idle"), [("metaoptnet", "ridge"), ("metaoptnet-ridge", "penalty"),
                                            ("metaoptnet-ridge", "smoothing")])  # fmt: skip
def test_settings_of_the_other_head_are_refused(name, idle):
    with pytest.raises(FewShotError, match=f"agent.{idle} changes nothing where agent.head is"):
        agents.make(name, IMAGES, padding=1, **{idle: 7.0})


def test_metaoptnet_is_its_machine_on_plain_features():
    agent = make_agent("metaoptnet", "conv", penalty=0.5, smoothing=0.3)
    agent.scale.data.fill_(1.7)
    episode, total = batch_of_tasks(IMAGES), 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        alpha = svm_dual((z @ z.T + 0.3 * torch.eye(len(z)))[None], episode.support.y[b][None], 3, 0.5)[0]
        total = total + F.cross_entropy(1.7 * q @ z.T @ alpha, episode.query.y[b]) + 0 * agent.scale.sum()
    actual = agent_meta_loss(agent, episode)
    assert actual.item() == pytest.approx(total.item(), rel=1e-9)
    want, got = gradients(total, agent)["encoder.weights"], gradients(actual, agent)["encoder.weights"]
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_ridge_is_ridge_regression_on_plain_features(kind):
    agent = make_agent("metaoptnet-ridge", kind, ridge=0.7)
    agent.scale.data.fill_(1.3)
    episode, spec, total = batch_of_tasks(agent.spec), agent.spec, 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        y = episode.support.y[b]
        y = F.one_hot(y, 3).double() if spec.kind == "classification" else y
        w = torch.linalg.inv(z.T @ z + 0.7 * torch.eye(z.shape[1])) @ z.T @ y
        total = total + spec.loss((agent.scale[0] * (q @ w))[None], episode.query.y[b : b + 1]).sum()
    same(agent, total, episode, 1e-7)


class WithOne(nn.Module):
    """Linear features, and a constant where asked for."""

    def __init__(self, constant):
        super().__init__()
        torch.manual_seed(3)
        self.linear, self.constant = nn.Linear(1, 4), constant

    def forward(self, x):
        z = torch.tanh(self.linear(x))
        return torch.cat([z, torch.ones_like(z[:, :1])], 1) if self.constant else z


def features(in_shape):
    return WithOne(False)


def features_with_one(in_shape):
    return WithOne(True)


def test_ridge_at_equal_scale_is_r2d2():
    """R2-D2 joins a constant to its features; here MetaOptNet's network gives it."""
    torch.manual_seed(0)
    ours = agents.make("metaoptnet-ridge", SINE, network=features_with_one, ridge=0.4).double().train()
    theirs = agents.make("r2d2", SINE, network=features, first_ridge=0.4).double().train()
    theirs.encoder.weights.data.copy_(ours.encoder.weights)
    for agent in (ours, theirs):
        agent.scale.data.fill_(1.6)
    episode = batch_of_tasks(SINE)
    a, b = agent_meta_loss(ours, episode), agent_meta_loss(theirs, episode)
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    mine, r2d2s = gradients(a, ours), gradients(b, theirs)
    names = ("encoder.weights", "scale")
    assert relative_error({n: mine[n] for n in names}, {n: r2d2s[n] for n in names}) < 1e-10


@pytest.mark.parametrize(("name", "kind"), [("metaoptnet", "conv"), ("metaoptnet-ridge", "conv"),
                                            ("metaoptnet-ridge", "mlp")])  # fmt: skip
def test_meta_gradients_are_seen_by_finite_differences(name, kind):
    agent = make_agent(name, kind)
    by_gradient, by_difference = along_a_direction(agent, batch_of_tasks(agent.spec))
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_the_machine_says_that_regression_has_no_classes():
    with pytest.raises(
        FewShotError, match=r"^a support vector machine separates classes, and regression has none; try"
    ):
        agents.make("metaoptnet", SINE)
