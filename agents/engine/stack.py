"""Stack: independent runs of one small agent, trained side by side as one agent.

Where the base learner is small, a step costs mostly overhead; R runs in one program share it. Each run is what it
would be alone: its weights, its tasks, its clipping, its moments in Adam. One thing is shared: Adam's count of steps,
so that after a skipped step (a loss that is not finite) a run's rates are corrected as if it had been taken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from agents.networks.network import MLPBody
from agents.neural import NeuralAgent


class Stack:
    """R runs of an agent. `agent` does the work of all, on batches [R * B, ...] ordered by run.

    members: the runs as ordinary agents that share `agent`'s memory: what one learns, the other knows. A single run
    is its own stack. Raises ValueError where the agents can not be stacked (`can_stack`).
    """

    def __init__(self, members: Sequence[Agent]) -> None:
        self.members = list(members)
        self.agent = self.members[0]
        if len(self.members) > 1:
            if not all(can_stack(member) for member in self.members):
                raise ValueError(f"{type(self.agent).__name__} has no first axis for runs in all its parameters")
            self.agent = copy.deepcopy(self.members[0])
            self.agent.runs = len(self.members)
            self._share()

    def _share(self) -> None:
        """Give `agent` all runs' values, and each member its row of them."""
        owners = [dict(member.named_parameters()) for member in self.members]
        for name, parameter in self.agent.named_parameters():
            parameter.data = torch.cat([own[name].data for own in owners])
            for r, own in enumerate(owners):
                own[name].data = parameter.data[r : r + 1]

    def meta_update(self, predictions: Tensor, query_y: Tensor) -> list[dict[str, float]]:
        """One outer step of all runs: a row each, as `Agent.meta_update` gives it."""
        if len(self.members) == 1:
            return [self.agent.meta_update(predictions, query_y)]
        self.agent.accumulate(predictions, query_y)
        return self.agent.meta_step()

    def inspect(self, adapted: Any) -> list[dict[str, float]]:
        """What `Agent.inspect` says of each run's tasks."""
        if len(self.members) == 1:
            return [self.agent.inspect(adapted)]
        return [member.inspect(adapted.of_run(r, len(self.members))) for r, member in enumerate(self.members)]

    def train(self) -> None:
        """Train mode, for all."""
        for each in (self.agent, *self.members):
            each.train()

    def state(self, run: int) -> dict[str, Any]:
        """One run's `Agent.state`, as if it had been alone."""
        if len(self.members) == 1:
            return self.agent.state()
        weights = {name: v.clone() for name, v in self.members[run].state_dict().items()}
        optimizer = self.agent.optimizer.state_dict()
        moments = optimizer["state"].items()
        optimizer["state"] = {k: _combined([v], lambda vs: vs[0][run : run + 1].clone()) for k, v in moments}
        return {"weights": weights, "optimizer": optimizer}

    def load_weights(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take up the weights of what `state` gave for every run, for a test: the runs may stand at different steps."""
        if len(self.members) == 1:
            self.agent.load_state(dict(states[0]))
            return
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state["weights"])

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take up what `state` gave for every run; raises RuntimeError or KeyError where it is another agent's."""
        if len(self.members) == 1:
            self.agent.load_state(dict(states[0]))
            return
        self.load_weights(states)
        whole = copy.deepcopy(states[0]["optimizer"])
        counts = [{k: float(v["step"]) for k, v in state["optimizer"]["state"].items()} for state in states]
        if any(count != counts[0] for count in counts):
            raise RuntimeError("the runs' optimizers have taken different numbers of steps; resume each alone")
        for k in whole["state"]:
            whole["state"][k] = _combined([state["optimizer"]["state"][k] for state in states], torch.cat)
        self.agent.optimizer.load_state_dict(whole)


def can_stack(agent: Agent) -> bool:
    """Whether runs of this agent can be stacked: its class says so, and its base learner is small."""
    small = isinstance(agent, NeuralAgent) and type(agent.body) is MLPBody
    axes = all(len(p) == 1 for p in agent.parameters()) and not any(b.numel() for b in agent.buffers())
    return agent.stackable and small and axes


def _combined(parts: list[dict[str, Any]], combine: Callable[[list[Tensor]], Tensor]) -> dict[str, Any]:
    """An optimizer's state of one parameter from those of its parts; the step count, a plain number, is the first's."""
    return {name: combine([part[name] for part in parts]) if v.dim() else v for name, v in parts[0].items()}
