"""TaskSampler: what an environment needs from a family of tasks, and the settings that all families share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from fewshot_env import plugins
from fewshot_env.episode import Episode, TaskSpec
from fewshot_env.errors import FewShotError, is_out_of_memory, said
from fewshot_env.settings import SettingsModel, validate


class EmptySplit(FewShotError):
    """A split of the data holds no classes: a run then goes without validation, if that is the one."""


class TaskConfig(SettingsModel):
    """Settings that every task family has."""

    split: Literal["train", "val", "test"] = Field("train", description="meta-train, meta-val or meta-test tasks")
    minibatch: int = Field(
        0,
        ge=0,
        le=10**6,
        description="0: episodes; m > 0: zero-shot episodes of m items over all base classes (pre-training)",
    )


@runtime_checkable
class TaskSampler(Protocol):
    """A family of tasks, built as `Sampler(**settings)` with the fields of `Config`.

    What it samples first is checked against `spec` (fewshot_env.conformance).
    """

    Config: ClassVar[type[TaskConfig]]
    config: Any
    spec: TaskSpec
    """The tasks' spaces; n_outputs counts the base classes in minibatches."""
    support_size: int
    """Items of a task's support; of the largest, where they differ (fewshot_env.shapes)."""
    query_size: int
    """Items of a task's query, likewise."""
    fingerprint: str
    """Names the task distribution, data included: two samplers with one fingerprint sample equal tasks."""

    def __init__(self, **settings: Any) -> None: ...

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Sample one task per seed; equal seeds give equal tasks.

        Args:
            task_seeds: B integers in [0, 2^63).

        Returns:
            B tasks with the query's answers: x float32 (or uint8 images) [B, S, *in_shape]; y int64 [B, S] or
            float32 [B, S, N].
        """
        ...


REQUIRED = ("config", "spec", "sample", "support_size", "query_size", "fingerprint")
"""What a sampler must have."""

SamplerSource = str | type[TaskSampler] | partial[type[TaskSampler]]
"""A sampler class, or what gives one: "module:Class", or a functools.partial without further arguments."""


def sampler_class(source: SamplerSource) -> type[TaskSampler]:
    """The sampler class of a source; raises FewShotError where there is none."""
    cls = plugins.load(source, f"sampler {source!r}") if isinstance(source, str) else source
    cls = cls() if isinstance(cls, partial) else cls
    if not hasattr(cls, "Config"):
        raise FewShotError(f"{_name(source)!r} is not a TaskSampler (fewshot_env.sampler): it has no Config")
    sampler: type[TaskSampler] = cls
    return sampler


def build_sampler(sampler: SamplerSource | TaskSampler, settings: dict[str, Any]) -> TaskSampler:
    """Make a sampler from its class and settings; a ready sampler takes no settings.

    Raises FewShotError for a wrong setting, and where the class fails or lacks something that every sampler has.
    """
    if isinstance(sampler, str | type | partial):
        cls = sampler_class(sampler)
        validate(cls.Config, settings)
        try:
            built = cls(**settings)
        except FewShotError:
            raise
        except Exception as error:  # of a custom sampler
            if is_out_of_memory(error):
                raise
            raise FewShotError(f"the sampler {cls.__qualname__} cannot be built: {said(error)}") from error
        missing = [name for name in REQUIRED if not hasattr(built, name)]
        if missing:
            missed = ", no ".join(missing)
            raise FewShotError(f"{_name(sampler)!r} is not a TaskSampler (fewshot_env.sampler): no {missed}")
        return built
    if settings:
        raise TypeError(f"a ready sampler takes no settings, got {sorted(settings)}")
    return sampler


def _name(source: Any) -> str:
    return source if isinstance(source, str) else getattr(source, "__qualname__", repr(source))
