"""TaskSampler: what an environment needs from a family of tasks, and the config all families share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from fewshot_env.episode import Episode, TaskSpec
from fewshot_env.errors import FewShotError, said


class TaskConfig(BaseModel):
    """Settings that every task family has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["train", "val", "test"] = Field("train", description="meta-train, meta-val or meta-test tasks")
    minibatch: int = Field(
        0,
        ge=0,
        le=10**6,
        description="0 deals episodes; m > 0 deals zero-shot episodes of m items over all base classes (pre-training)",
    )


@runtime_checkable
class TaskSampler(Protocol):
    """A family of tasks. Constructed as `Sampler(**settings)`, with the fields of `Config`."""

    Config: ClassVar[type[TaskConfig]]
    config: Any
    spec: TaskSpec
    """The tasks' spaces; n_outputs counts the base classes in minibatches."""
    support_size: int
    """Items of a task's support; of the largest, where they differ (fewshot_env.shapes)."""
    query_size: int
    """Items of a task's query, likewise."""
    fingerprint: str
    """Names the task distribution, data included: two samplers with one fingerprint deal equal tasks."""

    def __init__(self, **settings: Any) -> None: ...

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Deal one task per seed, B in all, query answers included; equal seeds give equal tasks."""
        ...


def sampler_class(where: str) -> type[TaskSampler]:
    """Import a sampler class from "module:Class"; raises FewShotError where there is none."""
    module, _, name = where.partition(":")
    try:
        found: type[TaskSampler] = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # a plug-in's module may do anything
        raise FewShotError(f"the sampler {where!r} can not be imported: {said(error)}") from error
    if not hasattr(found, "Config"):
        raise FewShotError(f"{where!r} is not a TaskSampler (fewshot_env.sampler): it has no Config")
    return found


def build_sampler(sampler: str | TaskSampler, settings: dict[str, Any]) -> TaskSampler:
    """Make the sampler from "module:Class" and its settings; a ready sampler takes no settings.

    Raises FewShotError where it lacks something that every sampler has.
    """
    if isinstance(sampler, str):
        built = sampler_class(sampler)(**settings)
        missing = [name for name in ("spec", "sample", "support_size", "query_size") if not hasattr(built, name)]
        if missing:
            raise FewShotError(f"{sampler!r} is not a TaskSampler (fewshot_env.sampler): no {', no '.join(missing)}")
        return built
    if settings:
        raise TypeError(f"a ready sampler takes no settings, got {sorted(settings)}")
    return sampler
