"""Stacked runs are the runs they would be alone."""

import copy

import pytest
import torch

from agents.engine.stack import Stack, can_stack
from fewshot_env.episode import Episode
from tests.helpers.agents import SINE, batch_of_tasks, joined, make_agent

pytestmark = pytest.mark.usefixtures("float64")
CASES = {
    "maml": {"inner_steps": 3},
    "turtle": {"inner_steps": 3, "history": "updates", "loss_input": True, "per_layer": True},
    "lstm": {"inner_steps": 3, "first_order": False},
}


def build(name, seed):
    return make_agent(name, "mlp", seed=seed, **CASES[name])


def tasks_of(run, step):
    return batch_of_tasks(SINE, seed=100 * run + step)


def train_alone(agent, run, steps):
    rows = []
    for step in steps:
        task = tasks_of(run, step)
        predictions = agent.predict(agent.adapt(task.support), task.query.x)
        rows.append(agent.meta_update(predictions, task.query.y))
    return rows


def train_together(stack, steps):
    rows = []
    for step in steps:
        task = joined([tasks_of(run, step) for run in range(stack.runs)])
        adapted = stack.agent.adapt(task.support)
        inner = stack.inspect(adapted)
        stack.agent.outer.add(adapted, stack.agent.predict(adapted, task.query.x), task.query.y)
        rows.append(stack.finish_step())
        assert len(inner) == stack.runs
        assert inner[0] != inner[1]
    return rows


def equal(agent, other):
    return all(
        torch.allclose(p, q, rtol=1e-9, atol=1e-12) for p, q in zip(agent.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", CASES)
def test_each_run_is_what_it_is_alone(name):
    """Rows, weights, Adam's moments, and going on from a saved state, alone or together."""
    alone = [build(name, seed) for seed in range(3)]
    stack = Stack([build(name, seed) for seed in range(3)])
    rows = train_together(stack, range(6))
    for run, agent in enumerate(alone):
        for own, shared in zip(train_alone(agent, run, range(6)), rows, strict=True):
            assert shared[run] == pytest.approx(own, rel=1e-9)
        assert equal(agent, stack.member(run))
        single = build(name, 7)
        single.load_state(copy.deepcopy(stack.state(run)))
        train_alone(single, run, range(6, 9))
        train_alone(agent, run, range(6, 9))
        assert equal(agent, single)
    again = Stack([build(name, 9) for _ in range(3)])
    again.load_states([copy.deepcopy(stack.state(run)) for run in range(3)])
    train_together(again, range(6, 9))
    for run, agent in enumerate(alone):
        assert equal(agent, again.member(run))


def test_a_run_that_fails_leaves_the_others_alone():
    """Before any step and after some: the failing run keeps its weights and moments, the others learn."""
    stack, alone = Stack([build("maml", seed) for seed in range(2)]), build("maml", 1)
    for step in range(3):
        task = joined([tasks_of(run, step) for run in range(2)])
        before = stack.member(0).initialization.detach().clone()
        adapted = stack.agent.adapt(task.support)
        predictions = stack.agent.predict(adapted, task.query.x)
        wrong = step != 1
        scale = torch.tensor([[[torch.nan if wrong else 1.0]]] * 2 + [[[1.0]]] * 2)
        stack.agent.outer.add(adapted, predictions * scale, task.query.y)
        rows = stack.finish_step()
        assert [row["skipped"] for row in rows] == [float(wrong), 0.0]
        assert torch.equal(before, stack.member(0).initialization) is wrong
        train_alone(alone, 1, [step])
    assert equal(alone, stack.member(1))


def test_members_are_snapshots():
    """What one learns by itself, the stack does not know; its optimizer is the run's own."""
    stack = Stack([build("maml", seed) for seed in range(2)])
    train_together(stack, range(3))
    member, before = stack.member(1), stack.agent.initialization.detach().clone()
    train_alone(member, 1, [3])
    assert torch.equal(stack.agent.initialization, before)
    assert not equal(member, stack.member(1))
    moments = stack.agent.outer.optimizer.state[stack.agent.initialization]["exp_avg"]
    own = stack.member(1)
    assert torch.equal(own.outer.optimizer.state[own.initialization]["exp_avg"], moments[1:])


def test_what_can_be_stacked():
    assert can_stack(make_agent("turtle", "mlp"))
    assert not can_stack(make_agent("turtle", "conv"))
    assert not can_stack(make_agent("finetuning", "mlp"))
    with pytest.raises(ValueError, match="first axis"):
        Stack([make_agent("finetuning", "mlp") for _ in range(2)])


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", ["maml", "turtle", "lstm", "finetuning"])
def test_a_meta_batch_in_parts_is_the_whole(name, kind):
    """Also with running statistics, whose mean is over all tasks."""
    found = []
    for sizes in ([3], [1, 2]):
        agent = make_agent(name, kind, bn="running")
        task, start = batch_of_tasks(agent.spec, tasks=3), 0
        for size in sizes:
            part = Episode(task.support[start : start + size], task.query[start : start + size])
            support = part.support.empty() if name == "finetuning" else part.support
            adapted, start = agent.adapt(support), start + size
            agent.outer.add(adapted, agent.predict(adapted, part.query.x), part.query.y)
        (row,) = agent.outer.finish()
        found.append((row, agent))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    assert equal(found[0][1], found[1][1])
    assert torch.allclose(found[0][1].running, found[1][1].running, rtol=1e-9)


@pytest.mark.parametrize("name", ["maml", "turtle"])
def test_what_is_said_of_all_runs_is_what_each_would_say(name):
    agent = make_agent(name, "mlp", inner_steps=3)
    adapted = agent.adapt(batch_of_tasks(agent.spec, tasks=6).support)
    together = agent.inspect_runs(adapted, 3)
    alone = [agent.inspect(adapted.of_run(run, 3)) for run in range(3)]
    assert [row.keys() for row in together] == [row.keys() for row in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-6)
