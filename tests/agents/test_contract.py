"""check_agent over every registered agent, on sine and on images; and that it catches what breaks it."""

import pickle

import pytest
import torch

import agents
from agents.base import Agent, AgentConfig
from agents.chance import Chance
from agents.check import check_agent
from fewshot_env.sine import SineSampler
from tests.helpers.agents import CLASSIFIERS, IMAGES, batch_of_tasks, tasks_for


@pytest.mark.parametrize("kind", ["sine", pytest.param("images", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", agents.AGENTS)
def test_every_agent_keeps_the_contract(name, kind, small_store):
    settings = {} if name == "chance" else {"filters": 8, "padding": 1}
    if kind == "sine" and name in CLASSIFIERS:
        pytest.skip("it is for classes; tests/agents/test_body.py has it on images")
    minibatch = agents.find(name).load().Config().minibatch
    spec, train, test = tasks_for(kind, minibatch, small_store)
    rate = {"reptile": 0.5, "leo": 0.001}.get(name, 0.01)  # reptile's step is a share of the way; leo overshoots
    check_agent(lambda: agents.make(name, spec, n_shot=2, outer_lr=rate, **settings), train, test, steps=10)


def broken(**methods):
    return type("Broken", (Chance,), methods)


class Learner(Agent):
    """A linear model that ignores the support."""

    def __init__(self, spec, config):
        super().__init__(spec, config)
        self.linear = torch.nn.Linear(1, 1)
        self.count = torch.nn.Buffer(torch.zeros(()))

    def adapt(self, support):
        return None

    def predict(self, adapted, query_x):
        return self.linear(query_x) if self.training else self.linear(query_x).detach()


BROKEN = {
    "must be \\[B, Q, n_outputs\\]": broken(predict=lambda self, adapted, x: adapted),
    "must not carry a graph": type(
        "Graph", (Learner,), {"predict": lambda self, adapted, x: self.linear(x).requires_grad_()}
    ),
    "must give the same answers": broken(predict=lambda self, adapted, x: torch.rand(*x.shape[:2], 1)),
    "must not change the agent": type("Changes", (Learner,), {"adapt": lambda self, support: self.count.add_(1)}),
    "must not depend on the other tasks": broken(
        adapt=lambda self, s: s.labels.mean(dtype=torch.float32).expand(len(s.x), 1, 1)
    ),
    "empty support": broken(adapt=lambda self, s: s.labels.mean(1, keepdim=True)),
    "must lower its loss": type(
        "Lazy", (Learner,), {"make_optimizer": lambda self: torch.optim.SGD(self.parameters(), lr=0.0)}
    ),
    "act must give": broken(act=lambda self, obs: obs["query_x"] * 0 + 7.0),
    "must not change the agent in train mode": type(
        "Shifts", (Learner,), {"adapt": lambda self, s: self.linear.weight.data.add_(1) if self.training else None}
    ),
    "state\\(\\) must hold": type(
        "Amnesia", (Learner,), {"state": lambda self: {"weights": self.state_dict(), "optimizer": None}}
    ),
    "must keep the predictions": type(
        "Forgets", (Learner,), {"load_state": lambda self, state: self.linear.weight.data.mul_(3)}
    ),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_it_catches_broken_promises(promise, small_store):
    spec, train, test = tasks_for("sine", 0, small_store)
    with pytest.raises(AssertionError, match=promise):
        check_agent(lambda: BROKEN[promise](spec, BROKEN[promise].Config()), train, test)


def test_the_whole_learner_passes(small_store):
    spec, train, test = tasks_for("sine", 0, small_store)
    check_agent(lambda: Learner(spec, Learner.Config()), train, test)


def test_a_step_that_is_not_finite_changes_nothing():
    spec = SineSampler().spec
    agent = Learner(spec, Learner.Config())
    before = agent.linear.weight.clone()
    row = agent.meta_update(agent.predict(None, torch.full((1, 2, 1), torch.inf)), torch.zeros(1, 2, 1))
    assert row["skipped"] == 1
    assert torch.equal(before, agent.linear.weight)
    row = agent.meta_update(agent.predict(None, torch.ones(1, 2, 1)), torch.zeros(1, 2, 1))
    assert row["skipped"] == 0
    assert not torch.equal(before, agent.linear.weight)


def test_registry():
    from fewshot_env.errors import FewShotError

    with pytest.raises(FewShotError, match=r"unknown agent 'turtel' \(did you mean 'turtle'\?\)"):
        agents.find("turtel")
    with pytest.raises(FewShotError, match="already registered"):
        agents.register("maml", "x:Y", "")
    with pytest.raises(FewShotError, match="cannot be imported"):
        agents.find("no_such_module:Agent").load()
    with pytest.raises(FewShotError, match="is not an agent"):
        agents.find("json:JSONDecoder").load()


def test_gradients_in_any_memory_layout():
    """A plug-in whose weights lie channels last in memory."""

    class Own(Agent):
        def __init__(self):
            super().__init__(IMAGES, AgentConfig(outer_clip_norm=0.1))
            self.conv = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)

        def adapt(self, support):
            return None

        def predict(self, adapted, query_x):
            maps = query_x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            return self.conv(maps).mean((2, 3)).unflatten(0, query_x.shape[:2])

    agent, task = Own(), batch_of_tasks(IMAGES)
    row = agent.meta_update(agent.predict(None, task.query.x), task.query.y)
    total = torch.cat([p.grad.flatten() for p in agent.parameters()]).norm()
    assert total.item() == pytest.approx(0.1, rel=1e-4)
    assert row["grad_norm"] > 0.1
    pickle.dumps(agents.make("maml", IMAGES, filters=4, padding=1))
