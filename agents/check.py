"""check_agent: the promises of the Agent contract, checked on an agent of any kind, yours included."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from fewshot_env.episode import Episode


def check_agent(make: Callable[[], Agent], train: Episode, test: Episode, steps: int = 30) -> None:
    """Check an agent on a training batch (query answers included) and a test batch of B >= 2 tasks.

    make: builds the agent; its outcome may depend on torch's global seed alone. train is an episode batch,
    or a minibatch where the agent's config says so. Checked: shapes; adaptation leaves the agent as it
    was and repeats itself; no graph in eval mode; tasks of a batch do not touch each other; S = 0 gives an
    answer; a trajectory ends where `adapt` does; `act` answers one observation; saving and loading keeps
    predictions; `steps` updates on one batch lower the meta-loss (where the agent learns).

    The agent's state must carry its optimizer: original and copy take one more equal step.

    Raises AssertionError that names the broken promise.
    """
    torch.manual_seed(0)
    agent = make()
    _check_pure_and_shaped(agent, test)
    _check_tasks_alone(agent, test)
    _check_no_support(agent, test)
    _check_trajectory(agent, test)
    _check_act(agent, test)
    if agent.learns:
        _check_learns(agent, train, steps)
    _check_saves(agent, make, train, test)


def answers(agent: Agent, task: Episode) -> Tensor:
    """Predictions in eval mode."""
    agent.eval()
    return agent.predict(agent.adapt(task.support), task.query.x)


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)


def _check_pure_and_shaped(agent: Agent, task: Episode) -> None:
    before, rng = copy.deepcopy(agent.state_dict()), torch.get_rng_state()
    first = answers(agent, task)
    want = (*task.query.x.shape[:2], agent.spec.n_outputs)
    _require(first.shape == want, f"predictions are {tuple(first.shape)}, but must be [B, Q, n_outputs] = {want}")
    _require(not first.requires_grad, "in eval mode predictions must not carry a graph")
    _require(torch.equal(first, answers(agent, task)), "adapting twice to one support must give the same answers")
    after = agent.state_dict()
    _require(all(torch.equal(before[k], after[k]) for k in before), "adapt and predict must not change the agent")
    _require(torch.equal(rng, torch.get_rng_state()), "evaluation must not use torch's global random numbers")


def _check_tasks_alone(agent: Agent, task: Episode) -> None:
    one = Episode(task.support[:1], task.query[:1])
    same = torch.allclose(answers(agent, one), answers(agent, task)[:1], rtol=1e-3, atol=1e-4)
    _require(same, "a task's predictions must not depend on the other tasks of its batch")


def _check_no_support(agent: Agent, task: Episode) -> None:
    prior = answers(agent, Episode(task.support.empty(), task.query))
    _require(bool(prior.isfinite().all()), "an empty support (S = 0) must give the prior's answers")


def _check_trajectory(agent: Agent, task: Episode) -> None:
    last = agent.predict(agent.trajectory(task.support)[-1], task.query.x)
    same = torch.allclose(last, answers(agent, task), rtol=1e-3, atol=1e-4)
    _require(same, "the last of a trajectory must predict as what adapt gives")


def _check_act(agent: Agent, task: Episode) -> None:
    obs: dict[str, Any] = {
        "support_x": task.support.x[0].numpy(force=True),
        "support_y": task.support.labels[0].numpy(force=True),
        "query_x": task.query.x[0].numpy(force=True),
    }
    action, expected = agent.act(obs), answers(agent, Episode(task.support[:1], task.query[:1]))[0]
    expected = expected.argmax(-1) if agent.spec.kind == "classification" else expected
    same = action.shape == expected.shape and torch.allclose(torch.as_tensor(action), expected, rtol=1e-3, atol=1e-4)
    _require(same, "act must give the predictions: the argmax label, or the value, of every query item")


def _check_learns(agent: Agent, train: Episode, steps: int) -> None:
    losses = []
    agent.train()
    before = copy.deepcopy(agent.state_dict())
    agent.adapt(train.support)
    after = agent.state_dict()
    _require(all(torch.equal(before[k], after[k]) for k in before), "adapt must not change the agent in train mode")
    for _ in range(steps):
        predictions = agent.predict(agent.adapt(train.support), train.query.x)
        losses.append(agent.meta_update(predictions, train.query.labels)["loss"])
    _require(
        losses[-1] < losses[0], f"{steps} updates on one batch must lower its loss; it went {losses[0]} to {losses[-1]}"
    )


def _check_saves(agent: Agent, make: Callable[[], Agent], train: Episode, test: Episode) -> None:
    twin = make()
    twin.load_state(copy.deepcopy(agent.state()))
    _require(torch.equal(answers(agent, test), answers(twin, test)), "load_state(state()) must keep the predictions")
    for each in (agent, twin) if agent.learns else ():
        each.train()
        each.meta_update(each.predict(each.adapt(train.support), train.query.x), train.query.labels)
    _require(torch.equal(answers(agent, test), answers(twin, test)), "state() must hold all that meta_update needs")
