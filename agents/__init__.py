"""Meta-learning agents: `agents.make` builds one, `agents.load` reads a trained one; agents.base has the contract."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agents.registry import AGENTS, AgentSpec, find, register

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from agents.base import Agent
    from fewshot_env.episode import TaskSpec

__all__ = ["AGENTS", "AgentSpec", "find", "load", "make", "register", "save"]


def make(name: str | type[Agent], spec: TaskSpec, n_shot: int = 1, **settings: Any) -> Agent:
    """Build an agent for tasks of `spec`.

    Args:
        name: a registered name (see `agents.AGENTS`), "module:Class", or a class derived from agents.base.Agent.
        spec: what the tasks are: an environment's `unwrapped.task_spec`.
        n_shot: support items per class (or points), on which some of the paper's settings depend.
        settings: what differs from the paper's settings, for example inner_steps=5; `fsl show NAME` lists them.

    Raises:
        FewShotError: for an unknown name or setting, and for tasks that the agent cannot learn.

    Example:
        >>> agent = agents.make("maml", gymnasium.make("FewShot/Sine-v0").unwrapped.task_spec, inner_steps=5)
    """
    from agents.base import Agent, paper_settings
    from fewshot_env.errors import FewShotError
    from fewshot_env.settings import validate

    cls, own = (find(name).load(), dict(find(name).settings)) if isinstance(name, str) else (name, {})
    if not (isinstance(cls, type) and issubclass(cls, Agent)):
        raise FewShotError(f"{cls!r} is not an agent; give a name, or a class derived from agents.base.Agent")
    validate(cls.Config, settings)
    agent = cls(spec, validate(cls.Config, paper_settings(cls, spec, n_shot) | own | settings))
    if isinstance(name, str):
        agent.name = name
    return agent


def load(
    file: str | Path,
    device: str | torch.device = "cpu",
    cls: type[Agent] | None = None,
    spec: TaskSpec | None = None,
    **changes: Any,
) -> Agent:
    """A trained agent from its file alone; see agents.saved.load."""
    from agents import saved

    return saved.load(file, device, cls, spec, **changes)


def save(agent: Agent, file: str | Path, about: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write a trained agent to a file that `agents.load` reads; see agents.saved.save."""
    from agents import saved

    saved.save(agent, file, about)
