"""The transfer baselines' adaptation against a plain loop, and their choice of the best weights."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.agents import IMAGES, SINE, batch_of_tasks, make_agent

pytestmark = pytest.mark.usefixtures("float64")


def plain_adaptation(agent, support, task):
    """One task with torch.optim.Adam on its own weights; the weights at each check, and their losses."""
    config, net = agent.config, agent.net
    generator = torch.Generator().manual_seed(int(agent.adapt_seed))
    start = agent._start(generator)
    order = torch.randint(support.x.shape[1], (config.adapt_steps, config.adapt_batch), generator=generator)
    stats = agent.running[None] if config.bn == "running" and net.n_stats else None
    fixed, tuned = (start[: net.n_body], start[net.n_body :]) if agent.config.body != "adapted" else (start[:0], start)
    tuned = torch.nn.Parameter(tuned.clone())
    optimizer = torch.optim.Adam([tuned], lr=config.adapt_lr)
    x, y = support.x[task : task + 1], support.y[task : task + 1]

    def loss(items):
        params = torch.cat([fixed, tuned])[None]
        if agent.config.body != "adapted":  # features are those of the whole support
            outputs = net.head(tuned[None], net.features(params, x, stats)[:, items])
        else:
            outputs = net(params, x[:, items], stats)
        target = y[:, items]
        return (
            F.mse_loss(outputs, target) if agent.spec.kind == "regression" else F.cross_entropy(outputs[0], target[0])
        )

    found = []
    for step, items in enumerate(order, 1):
        optimizer.zero_grad()
        loss(items).backward()
        optimizer.step()
        if step % config.check_every == 0:
            found.append((loss(slice(None)).item(), torch.cat([fixed, tuned.detach()])))
    return found


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", ["finetuning", "baseline++", "scratch"])
def test_equals_the_plain_loop_and_keeps_the_best(name, kind):
    spec = SINE if kind == "mlp" else IMAGES
    # a high rate makes the loss go up and down, so that the last check is often not the best
    agent = make_agent(name, kind, adapt_steps=40, check_every=5, adapt_lr=0.2).eval()
    task = batch_of_tasks(spec, tasks=4)
    adapted = agent.adapt(task.support)
    picked = []
    for b in range(4):
        checks = plain_adaptation(agent, task.support, b)
        losses = [loss for loss, _ in checks]
        assert adapted.losses[b].tolist() == pytest.approx(losses, rel=1e-6)
        best = min(range(len(losses)), key=losses.__getitem__)
        assert (adapted.params[b] - checks[best][1]).abs().max() < 1e-7
        picked.append(best)
    if name != "finetuning" or kind == "conv":
        assert any(p < 7 for p in picked), "choose a rate at which the best is not always the last"


def test_frozen_features_stay_and_heads_are_new():
    agent = make_agent("finetuning", "conv", adapt_steps=10).eval()
    task = batch_of_tasks(IMAGES)
    adapted = agent.adapt(task.support)
    body = agent.net.n_body
    assert torch.equal(adapted.params[:, :body], agent.weights.detach()[:body].expand(2, -1))
    assert adapted.params.shape[1] - body == 3 * 3 + 3
    assert len(agent.weights) - body == 5 * 3 + 5


def test_regression_keeps_the_pretrained_head_and_never_carries_over():
    agent = make_agent("finetuning", "mlp", adapt_steps=10).eval()
    task = batch_of_tasks(SINE)
    none = type(task.support)(task.support.x[:, :0], task.support.y[:, :0])
    assert torch.equal(agent.adapt(none).params[0], agent.weights.detach())
    first = agent.adapt(task.support).params
    assert torch.equal(first, agent.adapt(task.support).params)


def test_pretraining_classifies_the_base_classes():
    agent = make_agent("baseline++", "conv")
    x = torch.rand(1, 16, 2, 18, 18, dtype=torch.float64)
    none = type(batch_of_tasks(IMAGES).support)(x[:, :0], torch.zeros(1, 0, dtype=torch.int64))
    assert agent.predict(agent.adapt(none), x).shape == (1, 16, 5)
