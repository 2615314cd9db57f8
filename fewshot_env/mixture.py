"""Mixtures of domains: each task comes from one of several families ("mini+cub")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import create_model
from torch import Tensor

from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.rng import uniforms
from fewshot_env.sampler import SamplerSource, TaskConfig, TaskSampler, sampler_class
from fewshot_env.shapes import common_shape, shapes, varies

DOMAIN_DRAWS = 2**41
"""Where in a task's random numbers those stand that draw its domain: far behind all others."""


class Mixture:
    """Samples every task from one of the families `parts`, each equally often; settings go to all that have them.

    A minibatch (pre-training) draws the family of every item; classes are numbered through, family by family.
    Raises FewShotError where the families' spaces differ.
    """

    Config: ClassVar[type[TaskConfig]]
    parts: ClassVar[dict[str, type[TaskSampler]]]

    def __init__(self, **settings: Any) -> None:
        self.config = self.Config(**settings)
        chosen = self.config.model_dump()
        self.samplers = [
            part(**{k: v for k, v in chosen.items() if k in part.Config.model_fields}) for part in self.parts.values()
        ]
        specs = [sampler.spec for sampler in self.samplers]
        self._classes = [spec.n_base_classes for spec in specs]
        self.spec = self._spec(specs)
        sizes = [(sampler.support_size, sampler.query_size) for sampler in self.samplers]
        self.support_size, self.query_size = (max(of_all) for of_all in zip(*sizes, strict=True))
        self.varies = any(varies(sampler) for sampler in self.samplers) or len(set(sizes)) > 1
        self.fingerprint = f"mixture-v0 {[sampler.fingerprint for sampler in self.samplers]}"

    def _spec(self, specs: list[TaskSpec]) -> TaskSpec:
        first, base = specs[0], sum(self._classes)
        outputs = base if self.config.minibatch else first.n_outputs
        for name, spec in zip(self.parts, specs, strict=True):
            ours = (first.kind, first.in_shape, first.n_outputs if not self.config.minibatch else 0)
            theirs = (spec.kind, spec.in_shape, spec.n_outputs if not self.config.minibatch else 0)
            if type(spec) is not type(first):
                raise FewShotError(
                    f"{'+'.join(self.parts)} mixes tasks with different losses: {type(first).__name__} and "
                    f"{type(spec).__name__}; mix families with one TaskSpec class"
                )
            if ours != theirs:
                raise FewShotError(
                    f"{'+'.join(self.parts)} mixes different spaces: {next(iter(self.parts))} has {_space(first)}, "
                    f"{name} has {_space(spec)}; mix environments with equal inputs and outputs"
                )
        x_range, y_range = _widest([s.x_range for s in specs]), _widest([s.y_range for s in specs])
        names = tuple(name for spec in specs for name in spec.class_names)
        if first.kind == "regression":
            return replace(first, n_base_classes=1, x_range=x_range, y_range=y_range)
        ends = (0, outputs - 1)
        return replace(first, n_outputs=outputs, n_base_classes=base, x_range=x_range, y_range=ends, class_names=names)

    def shapes(self, task_seeds: Sequence[int]) -> NDArray[np.int64]:
        """[B, 3]: each task's outputs, support items and query items."""
        found = np.stack([shapes(sampler, task_seeds) for sampler in self.samplers])
        chosen: NDArray[np.int64] = found[self._domains(task_seeds, 1)[:, 0], np.arange(len(task_seeds))]
        return chosen

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Sample one task per seed; raises FewShotError where the seeds are of tasks of different shapes."""
        if self.config.minibatch:
            return self._minibatch(task_seeds)
        common_shape(self.shapes(task_seeds))
        domains, seeds = self._domains(task_seeds, 1)[:, 0], np.asarray(task_seeds, dtype=np.uint64)
        own = [seeds[domains == d].tolist() for d in range(len(self.samplers))]
        sampled = [sampler.sample(of) for sampler, of in zip(self.samplers, own, strict=True) if of]
        place = torch.from_numpy(domains.argsort(kind="stable").argsort())  # of each task among those sampled
        support, query = _alike([e.support for e in sampled]), _alike([e.query for e in sampled])
        return Episode(_put(support, place), _put(query, place))

    def _minibatch(self, task_seeds: Sequence[int]) -> Episode:
        sampled = [sampler.sample(task_seeds) for sampler in self.samplers]
        queries = _alike([e.query for e in sampled])
        before = np.cumsum([0, *self._classes[:-1]]) * (self.spec.kind == "classification")
        which = torch.from_numpy(self._domains(task_seeds, self.config.minibatch))
        at = (which, torch.arange(len(which))[:, None], torch.arange(which.shape[1]))
        x = torch.stack([query.x for query in queries])[at]
        y = torch.stack([query.labels + int(n) for query, n in zip(queries, before, strict=True)])[at]
        return Episode(sampled[0].support, Split(x, y))

    def _domains(self, task_seeds: Sequence[int], count: int) -> NDArray[np.int64]:
        """[B, count]: numbers of families."""
        return (uniforms(task_seeds, count, DOMAIN_DRAWS) * len(self.samplers)).astype(np.int64)


def _space(spec: TaskSpec) -> str:
    return f"{spec.kind} of inputs {'x'.join(map(str, spec.in_shape))} with {spec.n_outputs} outputs"


def _widest(ranges: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _alike(parts: list[Split]) -> list[Split]:
    """Items of one type: floats, where some have bytes and some have floats."""
    return parts if len({part.x.dtype for part in parts}) == 1 else [part.to("cpu") for part in parts]


def _put(parts: list[Split], place: Tensor) -> Split:
    """The tasks of all parts, of which task i stands at place[i]."""
    return Split(torch.cat([part.x for part in parts])[place], torch.cat([part.labels for part in parts])[place])


def mixture_of(sources: Mapping[str, SamplerSource]) -> type[Mixture]:
    """The sampler class of a mixture of families, given by their names and sampler classes."""
    name, parts = "+".join(sources), {part: sampler_class(source) for part, source in sources.items()}
    configs = list(dict.fromkeys(part.Config for part in parts.values()))
    bases = tuple(c for c in configs if not any(c is not other and issubclass(other, c) for other in configs))
    config = create_model("MixtureConfig", __base__=bases, __doc__=f"Settings of the mixture {name}.")
    return type(name, (Mixture,), {"Config": config, "parts": parts, "__doc__": f"Tasks of {name}."})
