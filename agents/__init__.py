"""Meta-learning agents. `agents.make("turtle", spec)` builds one; see `agents.base.Agent` for the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.registry import AGENTS, AgentSpec, find, register

if TYPE_CHECKING:
    from agents.base import Agent
    from fewshot_env.episode import TaskSpec

__all__ = ["AGENTS", "AgentSpec", "find", "make", "register"]


def make(name: str, spec: TaskSpec, n_shot: int = 1, **settings: Any) -> Agent:
    """Build an agent for tasks of `spec` with the paper's settings, its own, and `settings`, in that order."""
    found = find(name)
    cls = found.load()
    return cls(spec, cls.Config(**(cls.Config.paper(spec, n_shot) | dict(found.settings) | settings)))
