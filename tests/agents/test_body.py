"""agent.body: what adaptation changes, what meta-training changes, and what never changes."""

import copy

import pytest
import torch
import torch.nn.functional as F

import agents
from agents.check import check_agent
from agents.networks.features import Encoder
from agents.neural import NeuralConfig
from fewshot_env.episode import Episode
from fewshot_env.errors import FewShotError
from fewshot_env.sine import SineSampler
from fewshot_env.worlds.sampler import Glyphs

SMALL = {"n_way": 3, "n_shot": 2, "n_query": 2}


def sample(sampler, seeds):
    task = sampler.sample(seeds)
    task = Episode(task.support.to("cpu"), task.query.to("cpu"))
    for split in (task.support, task.query):
        object.__setattr__(split, "x", split.x.to(torch.get_default_dtype()))
        if split.y.is_floating_point():
            object.__setattr__(split, "y", split.y.to(torch.get_default_dtype()))
    return task


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def plain_anil(body, head, support_x, support_y, query_x, query_y, steps, lr, first_order):
    """ANIL on sine with plain autograd: ReLU layers of `body` (W, b alternating), SGD on `head` alone."""

    def features(x):
        for weight, bias in zip(body[::2], body[1::2], strict=True):
            x = F.relu(x @ weight.T + bias)
        return x

    z = features(support_x)
    weight, bias = head
    for _ in range(steps):
        loss = F.mse_loss(z @ weight.T + bias, support_y)
        grads = torch.autograd.grad(loss, (weight, bias), create_graph=True)
        if first_order:
            grads = [g.detach() for g in grads]
        weight, bias = weight - lr * grads[0], bias - lr * grads[1]
    return F.mse_loss(features(query_x) @ weight.T + bias, query_y)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("first_order", [False, True])
def test_learned_body_has_the_gradient_of_a_plain_loop_over_the_head(first_order):
    sampler = SineSampler(n_shot=5, n_query=7)
    config = {"body": "learned", "inner_steps": 3, "inner_lr": 0.05, "first_order": first_order, "hidden": (6, 4)}
    agent = agents.make("maml", sampler.spec, **config).double().train()
    task = sample(sampler, [1, 2, 3])
    losses = agent.meta_gradient(*(a := agent.adapt(task.support), agent.predict(a, task.query.x))[:2], task.query.y)
    sizes, values, start = [(6, 1), (6,), (4, 6), (4,)], [], 0
    for size in sizes:
        number = torch.Size(size).numel()
        values.append(agent.encoder.weights.detach()[0, start : start + number].view(size).requires_grad_())
        start += number
    assert start == agent.encoder.weights.numel()
    flat = agent.initialization.detach()[0]
    head = (flat[:4].view(1, 4).requires_grad_(), flat[4:].requires_grad_())
    plain = torch.stack([
        plain_anil(values, head, task.support.x[b], task.support.y[b], task.query.x[b], task.query.y[b], 3, 0.05,
                   first_order)
        for b in range(3)
    ])  # fmt: skip
    torch.testing.assert_close(losses, plain, rtol=1e-10, atol=1e-12)
    grads = torch.autograd.grad(plain.sum(), [*values, *head])
    expected_body, expected_head = (torch.cat([g.flatten() for g in part]) for part in (grads[:4], grads[4:]))
    torch.testing.assert_close(agent.encoder.weights.grad[0], expected_body, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(agent.initialization.grad[0], expected_head, rtol=1e-9, atol=1e-11)
    assert expected_body.abs().max() > 1e-3


@pytest.mark.usefixtures("float64")
def test_second_order_of_a_learned_body_is_seen_by_finite_differences():
    """Through the features' graph: without the mixed derivative, first and second order would agree in the body."""
    sampler = Glyphs(**SMALL)
    agent = agents.make("maml", sampler.spec, body="learned", inner_steps=2, inner_lr=0.1, filters=4, padding=1)
    agent, task = agent.double().train(), sample(sampler, [1, 2])

    def total():
        return agent.spec.loss(agent.predict(agent.adapt(task.support), task.query.x), task.query.labels).sum()

    (gradient,) = torch.autograd.grad(total(), agent.encoder.weights)
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1))
    weights = agent.encoder.weights.data
    with torch.no_grad():  # so small that hardly a pixel changes its side of a ReLU
        weights += 1e-8 * direction
        above = total()
        weights -= 2e-8 * direction
        below = total()
    torch.testing.assert_close((gradient * direction).sum(), (above - below) / 2e-8, rtol=1e-5, atol=1e-8)


ON_FEATURES = (
    "protonet", "simpleshot", "matching", "relation", "leo", "metaoptnet", "metaoptnet-ridge", "op-lstm", "plain-lstm",
    "linear-probe", "r2d2",
)  # fmt: skip
BODIES = [
    *((name, body) for name in ("maml", "turtle", "lstm", "finetuning", "baseline++", "scratch")
      for body in ("adapted", "learned", "frozen")),
    *((name, body) for name in ON_FEATURES for body in ("learned", "frozen")
      if (name, body) not in (("r2d2", "frozen"), ("metaoptnet-ridge", "frozen"), ("metaoptnet", "frozen"))),
    ("maml++", "learned"), ("maml++", "frozen"), ("transductive-finetuning", "adapted"),
]  # fmt: skip


@pytest.mark.parametrize("bn", ["transductive", "support", "running"])
@pytest.mark.parametrize(("name", "body"), BODIES)
def test_every_agent_keeps_the_contract(name, body, bn):
    train, test = Glyphs(**SMALL), Glyphs(split="test", **SMALL)
    rate = 0.001 if name == "leo" else 0.01  # ten times its own rate, LEO's steps of rate 1 in the code overshoot
    settings = {"filters": 4, "padding": 1, "bn": bn, "outer_lr": rate, "body": body}
    if name in ("maml", "turtle", "lstm"):
        settings["inner_steps"] = 2
    spec = train.spec
    if agents.make(name, spec, **settings).config.minibatch:
        train = Glyphs(**SMALL, minibatch=8)
    check_agent(lambda: agents.make(name, spec, **settings), sample(train, [1, 2, 3]), sample(test, [4, 5]), 8)


@pytest.mark.parametrize(("name", "body"), [pair for pair in BODIES if pair[1] == "frozen"])
def test_frozen_weights_never_change(name, body):
    agent = agents.make(name, Glyphs(**SMALL).spec, filters=4, padding=1, body=body).train()
    if not agent.learns:
        return
    train = Glyphs(**SMALL, minibatch=8 if agent.config.minibatch else 0)
    before, task = copy.deepcopy(agent.state_dict()), sample(train, [1, 2])
    agent.meta_update(agent.predict(adapted := agent.adapt(task.support), task.query.x), task.query.labels, adapted)
    after = agent.state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert torch.equal(before["encoder.weights"], after["encoder.weights"])
    assert torch.equal(before["running"], after["running"])
    assert changed  # the head, or the rule


def test_what_has_nothing_to_learn_is_not_trained():
    glyphs, sine = Glyphs(**SMALL).spec, SineSampler().spec
    assert not agents.make("finetuning", glyphs, body="frozen").learns
    assert agents.make("finetuning", glyphs).learns
    assert agents.make("finetuning", sine, body="frozen").learns  # its head is kept from the pre-training
    assert not agents.make("protonet", glyphs, body="frozen").learns
    assert agents.make("simpleshot", glyphs, body="frozen").learns  # it finds the mean feature


def test_the_body_of_protonet_cannot_be_adapted():
    with pytest.raises(FewShotError, match="body"):
        agents.make("protonet", Glyphs(**SMALL).spec, body="adapted")


def test_frozen_features_use_running_statistics_unless_others_are_asked_for():
    assert NeuralConfig(body="frozen").bn == "running"
    assert NeuralConfig().bn == "transductive"
    assert NeuralConfig(body="frozen", bn="support").bn == "support"


def counting(monkeypatch):
    """The number of items whose features were computed."""
    seen, plain = [], Encoder.features
    monkeypatch.setattr(Encoder, "features", lambda self, x, stats: seen.append(x.shape[1]) or plain(self, x, stats))
    return seen


def test_features_of_an_image_are_computed_once_per_run(monkeypatch):
    sampler = Glyphs(**SMALL)
    agent = agents.make("protonet", sampler.spec, filters=4, body="frozen").eval()
    task, seen = sample(sampler, [1, 2]), counting(monkeypatch)
    first = agent.predict(agent.adapt(task.support), task.query.x)
    different = {x.numpy().tobytes() for split in (task.support, task.query) for x in split.x.flatten(0, 1)}
    assert sum(seen) == len(different)
    again = agent.predict(agent.adapt(task.support), task.query.x)
    assert sum(seen) == len(different)
    assert torch.equal(first, again)


def test_other_weights_and_types_get_features_of_their_own(monkeypatch):
    sampler = Glyphs(**SMALL)
    agent = agents.make("protonet", sampler.spec, filters=4, body="frozen").eval()
    other = agents.make("protonet", sampler.spec, filters=4, body="frozen").eval()
    other.encoder.weights.add_(0.1)
    task = sample(sampler, [1])

    def scores(a):
        return a.predict(a.adapt(task.support), task.query.x)

    expected, _ = scores(other), scores(agent)
    agent.load_state_dict(other.state_dict())
    assert torch.equal(scores(agent), expected)
    object.__setattr__(task.support, "x", task.support.x.double())
    object.__setattr__(task.query, "x", task.query.x.double())
    assert scores(agent.double()).dtype == torch.float64


def test_the_cache_is_bounded_and_copies_are_empty(monkeypatch):
    from agents.networks import feature_cache

    monkeypatch.setattr(feature_cache, "MOST_BYTES", 4 * 3 * 5)  # five items of three features
    cache, computed = feature_cache.FeatureCache(), []
    items = torch.arange(16.0).view(8, 2)

    def compute(x):
        computed.append(len(x))
        return torch.cat([x, x.sum(1, keepdim=True)], 1)

    assert torch.equal(cache.features(items, compute)[:, 2], items.sum(1))
    cache.features(items[-5:], compute)  # the latest five are kept
    assert computed == [8]
    cache.features(items[:1], compute)
    assert computed == [8, 1]
    assert not copy.deepcopy(cache)._kept


def test_old_weights_of_the_protonet_example_load():
    agent = agents.make("protonet", Glyphs(**SMALL).spec, filters=4)
    state = agent.state_dict()
    state["embedding"] = state.pop("encoder.weights")[0] + 1
    expected = state["embedding"].clone()
    agent.load_state_dict(state)
    assert torch.equal(agent.encoder.weights[0], expected)


def test_features_follow_the_statistics_too():
    sampler = Glyphs(**SMALL)
    agent = agents.make("protonet", sampler.spec, filters=4, body="frozen").eval()
    task = sample(sampler, [1])

    def scores():
        return agent.predict(agent.adapt(task.support), task.query.x)

    before = scores()
    agent.running.add_(0.3)
    changed = scores()
    agent.encoder._cache.clear()
    assert torch.equal(changed, scores())
    assert not torch.allclose(before, changed)


def test_images_that_lie_otherwise_in_memory_are_not_mistaken_for_others():
    sampler = Glyphs(**SMALL)
    agent = agents.make("protonet", sampler.spec, filters=4, body="frozen").eval()
    memory = torch.rand(1, 1, 84, 84, 3)
    last = memory.permute(0, 1, 4, 2, 3)  # channels last
    first = memory.reshape(1, 1, 3, 84, 84)
    one, other = (agent.encoder.once(x, agent.running) for x in (last, first))
    assert not torch.allclose(one, other)
    plain = agent.encoder.features(first, agent.running.unsqueeze(0))
    torch.testing.assert_close(other, plain)


def test_cached_features_can_be_used_in_training_and_inputs_keep_their_gradient():
    sampler = Glyphs(**SMALL)
    agent = agents.make("maml", sampler.spec, filters=4, padding=1, body="frozen", inner_steps=1)
    task = sample(sampler, [1, 2])
    with torch.inference_mode():
        agent.encoder.once(task.support.x, agent.running)
        agent.encoder.once(task.query.x, agent.running)
    agent.train()
    adapted = agent.adapt(task.support)
    row = agent.meta_update(agent.predict(adapted, task.query.x), task.query.labels, adapted)
    assert row["grad_norm"] > 0
    x = task.query.x.clone().requires_grad_()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(agent.predict(agent.adapt(task.support), x).sum(), x)
        assert gradient.abs().max() > 0


def test_the_mean_feature_of_simpleshot_is_the_mean_of_all_its_minibatches():
    train = Glyphs(**SMALL, minibatch=8)
    agent = agents.make("simpleshot", Glyphs(**SMALL).spec, filters=4, body="frozen").train()
    task = sample(train, [1, 2, 3, 4])
    features = agent.encoder.once(task.query.x, agent.running)
    for part in (slice(0, 3), slice(3, 4)):  # three minibatches, then one
        some = Episode(task.support[part], task.query[part])
        adapted = agent.adapt(some.support)
        agent.meta_update(agent.predict(adapted, some.query.x), some.query.labels, adapted)
    torch.testing.assert_close(agent.mean, features.mean((0, 1)))


def test_a_class_that_still_says_frozen_is_told_what_to_say():
    from agents.transfer import Finetuning

    class Old(Finetuning):
        frozen = False

    with pytest.raises(FewShotError, match=r"Old sets frozen, which is the setting agent.body since"):
        agents.make(Old, Glyphs(**SMALL).spec)


def test_a_run_says_that_there_is_nothing_to_train(tmp_path, capsys):
    from tests.helpers.cli import main

    words = ["run", "--env", "glyphs", "--agent", "protonet", "--tasks", "9", "--set", "agent.body=frozen", "--set",
             "agent.filters=4", "--set", "test_tasks=2", "--log-dir", tmp_path]  # fmt: skip
    assert main(*words) == 0
    assert "with these settings protonet has nothing to train, so train_tasks is 0" in capsys.readouterr().err
