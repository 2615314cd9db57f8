"""check_agent: the promises of the Agent contract, verified on an agent of any kind, yours included."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from agents.engine.stack import Stack, can_stack
from fewshot_env.episode import Episode, Split


def check_agent(make: Callable[[], Agent], train: Episode, test: Episode, steps: int = 30) -> None:
    """Verify the contract of agents.base.Agent.

    Verified: shapes; adaptation leaves the agent unchanged and repeats itself; no graph in eval mode; tasks of a batch
    do not influence each other; S = 0 gives an answer; a trajectory ends where `adapt` does; `act` answers one
    observation; the meta-gradient of a meta-batch is the same taken whole, in parts, and beside another seed's (where
    the agent says that it can be stacked); `steps` updates on one batch lower the meta-loss (where the agent learns);
    saving and loading keeps predictions and the optimizer.

    Args:
        make: builds the agent; the outcome may depend on torch's global seed only.
        train: a training batch with query answers: B >= 2 tasks, or a minibatch where the agent's config says so.
        test: a test batch of B >= 2 tasks with answers.
        steps: outer steps on `train`.

    Raises:
        AssertionError: names the broken promise.
    """
    torch.manual_seed(0)
    agent = make()
    _check_pure_and_shaped(agent, test)
    _check_tasks_alone(agent, test)
    _check_no_support(agent, test)
    _check_trajectory(agent, test)
    _check_act(agent, test)
    if agent.learns:
        _check_pure_in_training(agent, train)
        _check_parts(agent, train)
        _check_stacked(make, train)
        _check_learns(agent, train, steps)
    _check_saves(agent, make, train, test)


def _predictions(agent: Agent, task: Episode) -> Tensor:
    """Predictions in eval mode."""
    agent.eval()
    return agent.predict(agent.adapt(task.support), task.query.x)


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)


def _check_pure_and_shaped(agent: Agent, task: Episode) -> None:
    before, rng = copy.deepcopy(agent.state_dict()), torch.get_rng_state()
    first = _predictions(agent, task)
    want = (*task.query.x.shape[:2], agent.spec.n_outputs)
    _require(first.shape == want, f"predictions are {tuple(first.shape)}, but must be [B, Q, n_outputs] = {want}")
    _require(not first.requires_grad, "in eval mode predictions must not carry a graph")
    _require(torch.equal(first, _predictions(agent, task)), "adapting twice to one support must give the same answers")
    after = agent.state_dict()
    _require(all(torch.equal(before[k], after[k]) for k in before), "adapt and predict must not change the agent")
    _require(torch.equal(rng, torch.get_rng_state()), "evaluation must not use torch's global random numbers")


def _check_tasks_alone(agent: Agent, task: Episode) -> None:
    one = Episode(task.support[:1], task.query[:1])
    same = torch.allclose(_predictions(agent, one), _predictions(agent, task)[:1], rtol=1e-3, atol=1e-4)
    _require(same, "a task's predictions must not depend on the other tasks of its batch")


def _check_no_support(agent: Agent, task: Episode) -> None:
    unadapted = _predictions(agent, Episode(task.support.empty(), task.query))
    _require(bool(unadapted.isfinite().all()), "an empty support (S = 0) must give finite answers")


def _check_trajectory(agent: Agent, task: Episode) -> None:
    last = agent.predict(agent.trajectory(task.support)[-1], task.query.x)
    same = torch.allclose(last, _predictions(agent, task), rtol=1e-3, atol=1e-4)
    _require(same, "the last of a trajectory must predict as what adapt gives")


def _check_act(agent: Agent, task: Episode) -> None:
    obs: dict[str, Any] = {
        "support_x": task.support.x[0].numpy(force=True),
        "support_y": task.support.labels[0].numpy(force=True),
        "query_x": task.query.x[0].numpy(force=True),
    }
    action, expected = agent.act(obs), _predictions(agent, Episode(task.support[:1], task.query[:1]))[0]
    expected = expected.argmax(-1) if agent.spec.kind == "classification" else expected
    same = action.shape == expected.shape and torch.allclose(torch.as_tensor(action), expected, rtol=1e-3, atol=1e-4)
    _require(same, "act must give the predictions: the argmax label, or the value, of every query item")


def _check_pure_in_training(agent: Agent, train: Episode) -> None:
    agent.train()
    before = copy.deepcopy(agent.state_dict())
    agent.adapt(train.support)
    after = agent.state_dict()
    _require(all(torch.equal(before[k], after[k]) for k in before), "adapt must not change the agent in train mode")


def _meta_gradient(agent: Agent, parts: list[Episode]) -> dict[str, Tensor]:
    """The gradient that one outer step would use, by parameter, for a meta-batch given in parts; nothing is learned."""
    agent.train()
    for part in parts:
        adapted = agent.adapt(part.support)
        agent.outer.add(adapted, agent.predict(adapted, part.query.x), part.query.labels)
    grads = {n: p.grad.clone() for n, p in agent.named_parameters() if p.grad is not None}
    agent.outer.discard()
    return grads


def _close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two gradients agree up to rounding, measured by the norm of the whole."""
    if one.keys() != other.keys():
        return False
    error = sum(float((one[n] - other[n]).square().sum()) for n in one)
    return error <= 1e-4 * sum(float(g.square().sum()) for g in other.values()) + 1e-12


def _check_parts(agent: Agent, train: Episode) -> None:
    whole = _meta_gradient(agent, [train])
    alone = [Episode(train.support[b : b + 1], train.query[b : b + 1]) for b in range(len(train.query.x))]
    _require(
        _close(_meta_gradient(agent, alone), whole),
        "the meta-gradient of a meta-batch in parts must be that of the whole: meta_gradient must sum over its tasks",
    )


def _check_stacked(make: Callable[[], Agent], train: Episode) -> None:
    torch.manual_seed(1)
    seeds = [make(), make()]
    if not can_stack(seeds[0]):
        return
    stack = Stack(seeds)
    twice = Episode(_doubled(train.support), _doubled(train.query))
    together = _meta_gradient(stack.agent, [twice])
    for run, agent in enumerate(seeds):
        of_run = {n: g[run : run + 1] for n, g in together.items()}
        _require(
            _close(of_run, _meta_gradient(agent, [train])),
            "the meta-gradient of a seed must not depend on the one beside it: parameters are [runs, ...] and tasks "
            "are ordered by run; set stackable = False where a method cannot do this",
        )


def _doubled(split: Split) -> Split:
    """Every task twice: once for each of two runs."""
    return Split(torch.cat([split.x, split.x]), torch.cat([split.labels, split.labels]))


def _check_learns(agent: Agent, train: Episode, steps: int) -> None:
    losses = []
    agent.train()
    for _ in range(steps):
        losses.append(_update(agent, train)["loss"])
    _require(
        losses[-1] < losses[0], f"{steps} updates on one batch must lower its loss; it went {losses[0]} to {losses[-1]}"
    )


def _check_saves(agent: Agent, make: Callable[[], Agent], train: Episode, test: Episode) -> None:
    twin = make()
    twin.load_state(copy.deepcopy(agent.state()))
    _require(
        torch.equal(_predictions(agent, test), _predictions(twin, test)),
        "load_state(state()) must keep the predictions",
    )
    for each in (agent, twin) if agent.learns else ():
        each.train()
        _update(each, train)
    _require(
        torch.equal(_predictions(agent, test), _predictions(twin, test)), "state() must hold all that meta_update needs"
    )


def _update(agent: Agent, task: Episode) -> dict[str, float]:
    adapted = agent.adapt(task.support)
    return agent.meta_update(agent.predict(adapted, task.query.x), task.query.labels, adapted)
