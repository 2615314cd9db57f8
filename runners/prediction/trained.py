"""Trained: a trained agent, in a run's folder or in a file, made ready for a new task of any number of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agents import registry as agent_registry
from agents import saved
from agents.base import Agent
from agents.networks import is_custom
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, command
from fewshot_env.plugins import name_of
from fewshot_env.settings import validate
from runners.config.named import verify_named
from runners.storage.run_folder import members
from runners.storage.schemas import must_exist, read_settings


@dataclass(frozen=True)
class Trained:
    """What a trained agent is made from.

    Attributes:
        file: the checkpoint, or the exported file.
        content: what it holds.
        cls: the agent's class, where it is one of somebody's own.
        network: module:factory, where the network is one of somebody's own.
    """

    file: Path
    content: Mapping[str, Any]
    cls: type[Agent] | None = None
    network: str | None = None

    @classmethod
    def open(cls, source: Path, agent: str | None = None, network: str | None = None) -> Trained:
        """Read a run's folder (its best weights) or a file of `fsl export` or `agents.save`.

        Args:
            source: the folder or file.
            agent: module:Class, where the agent's class is no known one. Neither a file nor the folder of a run
                imports code by itself.
            network: module:factory, likewise.

        Raises:
            FewShotError: where nothing is there, or it is damaged, of an older version, or needs a name.
        """
        must_exist(source)
        if source.is_dir():
            if len(several := members(source)) > 1:
                raise FewShotError(f"{source} holds {len(several)} runs; name one of them, for example {several[0]}")
            source = several[0]
            read_settings(source)
            if not (source / "best.pt").exists():
                again = command("fsl", "run", "--resume", source)
                raise FewShotError(f"the run {source} has no weights yet; finish it with: {again}")
            source = source / "best.pt"
        content = saved.read(source)
        if "trained" not in content:
            raise FewShotError(f"{source} was saved by a version that did not describe its agent; train it again")
        described = content["trained"]
        name, factory = str(described["agent"]), str(described["settings"].get("network", ""))
        verify_named(source, {"agent": name, "agent.network": factory}, (agent, network))
        own_class = agent_registry.find(agent or name).load() if ":" in name else None
        network = factory if is_custom(factory) else None
        return cls(source, content, own_class, network)

    @property
    def spec(self) -> TaskSpec:
        """The tasks that it was trained on."""
        return saved.spec_from(self.content["trained"])

    def make(self, spec: TaskSpec, device: torch.device, changes: Mapping[str, Any]) -> Agent:
        """The agent for tasks of `spec`; raises FewShotError where its weights do not fit these."""
        name = str(self.content["trained"]["agent"])
        own = {} if self.network is None else {"network": self.network}
        agent = saved.rebuild(self.content, self.file, device, self.cls, spec, **own, **changes)
        agent.name = name if self.cls is None else name_of(self.cls)
        return agent

    @property
    def agent_class(self) -> type[Agent] | None:
        """The agent's class; None where it is one of somebody's own that was not named."""
        name = str(self.content["trained"]["agent"])
        if self.cls is not None or ":" in name:
            return self.cls
        agent_registry.load_plugins()
        return agent_registry.find(name).load()

    def verify(self, settings: Mapping[str, Any]) -> None:
        """Raise FewShotError for a setting that the agent does not have, or a wrong value."""
        cls = self.agent_class
        if settings and cls is not None:
            validate(cls.Config, settings, "agent.")

    def for_classes(self, n: int, device: torch.device, changes: Mapping[str, Any]) -> tuple[Agent, str]:
        """The agent for tasks of n classes, and what must be said about it ("" where n is as in training).

        A method that makes its head for each task takes any number; one that learns its head takes the number that it
        was trained with, or fewer, for which outputs are left unused.
        """
        spec = self.spec
        trained = spec.n_outputs
        if n == trained:
            return self.make(spec, device, changes), ""
        try:
            return self.make(replace(spec, n_outputs=n, y_range=(0.0, n - 1.0)), device, changes), ""
        except FewShotError:
            agent = self.make(spec, device, changes)  # what else is wrong is said here
        if n > trained:
            raise FewShotError(
                f"{agent.name} was trained with outputs for {trained} classes, but the support has {n}; give at most "
                f"{trained}, or train with --n-way {n}, or an agent that makes its head for each task (protonet, r2d2, "
                "simpleshot, finetuning, baseline++)"
            )
        return agent, f"{agent.name} was trained with {trained} classes; of its outputs the first {n} are used"
