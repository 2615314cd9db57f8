"""The agents by name. Names are cheap: an agent's module is imported when the agent is made."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fewshot_env.errors import FewShotError, said, suggest

if TYPE_CHECKING:
    from agents.base import Agent


@dataclass(frozen=True)
class AgentSpec:
    """A registered agent: its class as "module:Class", one line about it, and settings that define it."""

    name: str
    where: str
    summary: str
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def load(self) -> type[Agent]:
        """Import the agent's class; raises FewShotError where there is none."""
        module, _, name = self.where.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (Exception, SystemExit) as error:  # a plug-in's module may do anything
            raise FewShotError(f"the agent {self.name!r} can not be imported: {said(error)}") from error
        from agents.base import Agent

        if not (isinstance(found, type) and issubclass(found, Agent)):
            raise FewShotError(f"{self.where!r} is not an agent: it must be a class derived from agents.base.Agent")
        return found


AGENTS: dict[str, AgentSpec] = {}
_seen_plugins: set[tuple[str, str]] = set()


def register(name: str, where: str, summary: str, **settings: Any) -> None:
    """Add an agent; raises FewShotError where the name is taken."""
    if name in AGENTS:
        raise FewShotError(f"the agent {name!r} is already registered ({AGENTS[name].where}); choose another name")
    AGENTS[name] = AgentSpec(name, where, summary, settings)


def find(name: str) -> AgentSpec:
    """The agent called `name`, or "module:Class" from the Python path or the current folder.

    Raises FewShotError with the nearest name for an unknown one.
    """
    if ":" in name:
        if "" not in sys.path:
            sys.path.insert(0, "")
        return AgentSpec(name, name, "an agent of your own")
    if name not in AGENTS:
        raise FewShotError(
            f"unknown agent {name!r}{suggest(name, AGENTS)}; known: {', '.join(AGENTS)}, or module:Class"
        )
    return AGENTS[name]


def load_plugins() -> None:
    """Register the entry-point group `fsl.agents`, each once, without importing it (which takes torch and seconds).

    A taken name, or a package that is not there, warns and is skipped; what else is wrong is told when it is used.
    """
    for point in entry_points(group="fsl.agents"):
        if (point.name, point.value) in _seen_plugins:
            continue
        _seen_plugins.add((point.name, point.value))
        try:
            if not point.pattern.match(point.value):
                raise FewShotError(f"{point.value!r} is not module:Class")
            if find_spec(point.module.partition(".")[0]) is None:
                raise FewShotError(f"there is no package for {point.value}")
            register(point.name, point.value, f"plug-in {point.value}")
        except Exception as error:  # of the package around it
            warnings.warn(f"the agent plug-in {point.name!r} was skipped: {said(error)}", stacklevel=2)


register("turtle", "agents.turtle:Turtle", "a feed-forward network proposes every update (the paper's)")
register("fo-turtle", "agents.turtle:Turtle", "TURTLE, first-order", first_order=True)
register("maml", "agents.maml:MAML", "gradient descent from a learned prior")
register("fo-maml", "agents.maml:MAML", "MAML, first-order", first_order=True)
register("lstm", "agents.meta_lstm:MetaLSTM", "meta-learner LSTM: an LSTM holds and updates the weights")
register(
    "lstm-enhanced",
    "agents.meta_lstm:MetaLSTM",
    "meta-learner LSTM with raw gradients, second order, 8 updates",
    raw_gradients=True,
    first_order=False,
    inner_steps=8,
)
register("scratch", "agents.transfer:TrainFromScratch", "TrainFromScratch: every task from the same random weights")
register("finetuning", "agents.transfer:Finetuning", "pre-trained frozen features, a new linear head per task")
register("baseline++", "agents.transfer:BaselinePlus", "pre-trained frozen features, a new cosine head per task")
register("chance", "agents.chance:Chance", "the floor: equal scores, or the mean of the support")
