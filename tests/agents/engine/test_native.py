"""The whole meta-gradient in one native call equals adapt, predict and meta_gradient, in float64 and for every rule."""

import pytest
import torch

import agents
from agents import kernels
from agents.maml import MAML, GradientDescent
from fewshot_env.episode import Episode, Split, TaskSpec
from tests.helpers.agents import IMAGES, SINE, gradients, plain_meta_loss, relative_error
from tests.helpers.learners import meta_gradient

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.skipif(kernels.library() is None, reason="there is no C++ compiler"),
]
VECTORS = TaskSpec("classification", (4,), 3, 5, (0, 1), (0, 2))
SPECS = {"regression": SINE, "classification": VECTORS}
SETTINGS = [
    {"inner_steps": 1},
    {"inner_steps": 4, "eval_steps": 2},
    {"inner_steps": 3, "inner_clip": 0.05, "task_clip": 0.02},
    {"inner_steps": 2, "hidden": (17,)},
]


def tasks(spec, number=4, support=6, query=9):
    generator = torch.Generator().manual_seed(1)

    def split(n):
        x = torch.randn(number, n, *spec.in_shape, generator=generator)
        values = torch.randn(number, n, 1, generator=generator)
        labels = torch.randint(0, spec.n_outputs, (number, n), generator=generator)
        return Split(x, values if spec.kind == "regression" else labels)

    return Episode(split(support), split(query))


def make(name, spec, **settings):
    torch.manual_seed(0)
    return agents.make(name, spec, **({"hidden": (7, 5)} | settings)).double().train()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize(
    "name", ["maml", "fo-maml", "meta-sgd", "boil", "turtle", "fo-turtle", "lstm", "lstm-enhanced"]
)
def test_it_is_what_autograd_gives(name, kind, settings):
    agent, episode = make(name, SPECS[kind], **settings), tasks(SPECS[kind])
    losses, want = meta_gradient(agent, episode)
    adapted = agent.adapt(episode.support)
    predictions = agent.predict(adapted, episode.query.x)
    assert agent.learns_at_once
    done, own_losses, scores = agent.learn_at_once(episode)
    got = {n: p.grad for n, p in agent.named_parameters()}
    assert relative_error(got, want) < 1e-12
    assert all(g.abs().max() > 0 for g in got.values())
    for ours, theirs in ((done.params, adapted.params), (done.losses, adapted.losses), (own_losses, losses),
                         (scores, agent.spec.score(predictions, episode.query.labels))):  # fmt: skip
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-13)
    agent.learn_at_once(episode)  # a second part adds
    assert relative_error({n: p.grad / 2 for n, p in agent.named_parameters()}, want) < 1e-12


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("inputs", [
    {"history": "updates", "loss_input": True}, {"history": "none", "time_input": False},
    {"history": "gradients", "time_input": False, "loss_input": True}, {"learned_rates": False, "hidden_layers": 0},
])  # fmt: skip
def test_every_input_of_turtle_is_what_autograd_gives(inputs, first_order):
    settings = {"inner_steps": 4, "hidden_layers": 2, "hidden_units": 3, "beta": 0.7, "first_order": first_order}
    agent, episode = make("turtle", SINE, **(settings | inputs)), tasks(SINE)
    _, want = meta_gradient(agent, episode)
    assert agent.learns_at_once
    agent.learn_at_once(episode)
    assert relative_error({n: p.grad for n, p in agent.named_parameters()}, want) < 1e-11


def test_the_lstm_differentiates_what_it_reads():
    """Second order through the preprocessing of gradients, large ones and tiny ones."""
    agent, episode = make("lstm", SINE, inner_steps=3, first_order=False, hidden_units=3), tasks(SINE)
    tiny = Split(episode.support.x * 1e-3, episode.support.y * 1e-5)
    for support in (episode.support, tiny):
        if support is tiny:
            agent.initialization.data *= 1e-3
        part = Episode(support, episode.query)
        _, want = meta_gradient(agent, part)
        agent.learn_at_once(part)
        assert relative_error({n: p.grad for n, p in agent.named_parameters()}, want) < 1e-10


def test_it_is_a_plain_loop():
    """Written anew in the test's helpers, with create_graph."""
    agent = agents.make("maml", SINE, hidden=(6, 5), inner_steps=3, inner_lr=0.1).double().train()
    episode = tasks(SINE)
    expected = plain_meta_loss(
        agent, Episode(episode.support, episode.query), lambda t, w, g, *_: w - 0.1 * g, 3, False, 0
    )
    agent.learn_at_once(episode)
    want = gradients(expected, agent)
    assert relative_error({"initialization": agent.initialization.grad}, want) < 1e-9


@pytest.mark.parametrize("name", ["meta-sgd", "boil", "turtle", "lstm"])
def test_runs_side_by_side_have_their_own_gradients(name):
    from agents.engine.stack import Stack

    seeds = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        seeds.append(agents.make(name, SINE, hidden=(5,), inner_steps=2).double().train())
    stack, episode = Stack(seeds), tasks(SINE, 3)
    twice = Episode(*(Split(torch.cat([s.x, s.x]), torch.cat([s.y, s.y])) for s in (episode.support, episode.query)))
    stack.agent.train().learn_at_once(twice)
    for run, alone in enumerate(seeds):
        alone.learn_at_once(episode)
        for name, p in alone.named_parameters():
            together = dict(stack.agent.named_parameters())[name].grad[run : run + 1]
            torch.testing.assert_close(together, p.grad, rtol=1e-12, atol=1e-14)


def test_no_support_gives_the_gradient_of_the_initialization():
    agent, episode = make("maml", SINE, inner_steps=3), tasks(SINE)
    empty = Episode(episode.support.empty(), episode.query)
    _, want = meta_gradient(agent, empty)
    done, *_ = agent.learn_at_once(empty)
    assert done.losses.shape == (4, 0)
    assert relative_error({"initialization": agent.initialization.grad}, want) < 1e-12


class OwnRule(MAML):
    """Another rule, which says no native step."""

    def make_rule(self, net):
        class Twice(GradientDescent):
            def __call__(self, params, grads, loss, step, state):
                return params - 2 * self.lr * grads, None

        return Twice(self.config.inner_lr)


class OwnGradient(MAML):
    """Another meta-gradient."""

    def meta_gradient(self, adapted, predictions, query_y):
        return super().meta_gradient(adapted, 2 * predictions, query_y)


@pytest.mark.parametrize("cls", [OwnRule, OwnGradient])
def test_what_changes_the_computation_is_never_computed_natively(cls):
    agent = cls(SINE, cls.Config()).double().train()
    assert not agent.learns_at_once


def test_other_networks_bodies_and_switched_off_kernels_take_the_usual_way():
    assert not make("maml", IMAGES, filters=3, padding=1).learns_at_once
    assert not make("maml", SINE, body="learned").learns_at_once
    assert not make("turtle", SINE, per_layer=True).learns_at_once
    agent = make("maml", SINE)
    assert agent.learns_at_once
    with kernels.off():
        assert not agent.learns_at_once
