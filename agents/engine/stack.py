"""Stack: independent runs of one small agent, trained side by side as one agent.

Where the base learner is small, a step costs mostly overhead; R runs in one program share it. Each run is what it
would be alone: its weights, its tasks, its clipping, its state in the optimizer. One thing is shared: the optimizer's
count of steps, so that after a skipped step (a loss that is not finite) a run's rates are corrected as if it had been
taken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.engine.outer_step import Sum


class Stack:
    """R runs of an agent: `agent` computes all of them, on batches [R * B, ...] ordered by run.

    Args:
        members: agents (agents.base.Agent) as the runs begin. A single one is its own stack.

    Raises:
        ValueError: where the agents cannot be stacked (`can_stack`).
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self.runs = len(members)
        self.agent: Any = members[0]
        self._template: Any = members[0]
        if self.runs > 1:
            if not all(can_stack(member) for member in members):
                raise ValueError(f"{type(self.agent).__name__} has no first axis for runs in all its parameters")
            self.agent = copy.deepcopy(members[0])
            self.agent.runs = self.runs
            self._set_weights([member.state_dict() for member in members])

    def _set_weights(self, weights: Sequence[Mapping[str, Tensor]]) -> None:
        for name, parameter in self.agent.named_parameters():
            parameter.data = torch.cat([of_run[name].to(parameter) for of_run in weights])

    def member(self, run: int) -> Any:
        """One run as an agent of its own: a copy of its present state (a single run is the agent itself)."""
        if self.runs == 1:
            return self.agent
        member = copy.deepcopy(self._template)
        member.load_state(self.state(run))
        return member

    def finish_step(self, reduce: Sum | None = None) -> list[dict[str, float]]:
        """Take the outer step whose parts were added to `agent.outer`: a row for each run."""
        rows: list[dict[str, float]] = self.agent.outer.finish(reduce)
        return rows

    def inspect(self, adapted: Any) -> list[dict[str, float]]:
        """What `Agent.inspect` says of each run's tasks."""
        if self.runs == 1:
            return [self.agent.inspect(adapted)]
        rows: list[dict[str, float]] = self.agent.inspect_runs(adapted, self.runs)
        return rows

    def state(self, run: int) -> dict[str, Any]:
        """One run's `Agent.state`, as if it had been alone."""
        if self.runs == 1:
            return dict(self.agent.state())
        learned = {name for name, _ in self.agent.named_parameters()}
        weights = self.agent.state_dict().items()
        optimizer = copy.copy(self.agent.outer.optimizer.state_dict())
        moments = optimizer["state"].items()
        optimizer["state"] = {k: _combined([v], lambda vs: vs[0][run : run + 1].clone()) for k, v in moments}
        return {
            "weights": {n: (v[run : run + 1] if n in learned else v).clone() for n, v in weights},
            "optimizer": optimizer,
        }

    def load_weights(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Load the weights of what `state` gave for every run, for a test: runs may stand at different steps."""
        if self.runs == 1:
            self.agent.load_state(dict(states[0]))
            return
        weights = []
        for state in states:  # an agent knows older names, and refuses another one's
            alone = copy.deepcopy(self._template)
            alone.load_state_dict(state["weights"])
            weights.append(alone.state_dict())
        self._set_weights(weights)

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Load what `state` gave for every run; raises RuntimeError or KeyError where it is another agent's."""
        self.load_weights(states)
        if self.runs == 1:
            return
        whole = copy.deepcopy(states[0]["optimizer"])
        counts = [{k: float(v.get("step", 0)) for k, v in state["optimizer"]["state"].items()} for state in states]
        if any(count != counts[0] for count in counts):
            raise RuntimeError("the runs' optimizers have taken different numbers of steps; resume each alone")
        for k in whole["state"]:
            whole["state"][k] = _combined([state["optimizer"]["state"][k] for state in states], torch.cat)
        self.agent.outer.optimizer.load_state_dict(whole)


def can_stack(agent: Any) -> bool:
    """Whether runs of this agent can be stacked: its class says so, and its base learner is small."""
    if not (agent.stackable and getattr(getattr(agent, "body", None), "stackable", False)):
        return False
    axes = all(p.dim() and len(p) == 1 for p in agent.parameters())
    return axes and not any(b.numel() for b in agent.buffers())


def _combined(parts: list[dict[str, Any]], combine: Callable[[list[Tensor]], Tensor]) -> dict[str, Any]:
    """An optimizer's state of one parameter from those of its parts; plain numbers are those of the first."""

    def has_runs(value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > 0

    return {name: combine([part[name] for part in parts]) if has_runs(v) else v for name, v in parts[0].items()}
