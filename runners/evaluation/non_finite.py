"""Numbers that are not finite: where they first appear in a task, and the task saved for `fsl replay`."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from agents.base import Agent
from fewshot_env.episode import Episode
from fewshot_env.sampler import TaskSampler
from runners.config.settings import Settings
from runners.console.output import log
from runners.storage import checkpoint
from runners.training.run_state import Track

MOST_SAVED = 5  # files per run and split: more would say the same


class Number(NamedTuple):
    """A quantity of an episode: its value, or its largest magnitude where it is an array, and whether all is finite."""

    name: str
    value: float
    sound: bool


def is_sound(row: Mapping[str, float]) -> bool:
    """Whether an outer step was taken: an agent of one's own may not say so, but has a loss."""
    return not row["skipped"] if "skipped" in row else math.isfinite(row.get("loss", 0.0))


def trace(agent: Agent, episode: Episode) -> list[Number]:
    """An episode's numbers in the order in which they are computed; the agent, in its mode, is left as it is.

    episode: one task with the query's answers. In train mode the last numbers are the meta-gradient, by parameter.
    """
    twin = copy.deepcopy(agent)
    found: list[Number] = []

    def note(name: str, value: Tensor) -> None:
        sound = bool(value.isfinite().all())
        value = value.detach()
        found.append(Number(name, float(value.abs().max() if value.dim() else value), sound))

    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(twin.training):
        parameters = dict(twin.named_parameters())
        for name, parameter in parameters.items():
            note(f"parameter {name}", parameter)
        for split, items in (("support", episode.support), ("query", episode.query)):
            if items.x.numel():
                note(f"{split} inputs", items.x.float())
                note(f"{split} answers", items.labels.float())
        adapted = twin.adapt(episode.support)
        for name, number in twin.inspect(adapted).items():
            note(f"support {name}", torch.tensor(number))
        predictions = episode.restrict(twin.predict(adapted, episode.query.x))
        note("query predictions", predictions)
        loss = twin.spec.loss(predictions, episode.query.labels).sum()
        note("query loss", loss)
        if loss.requires_grad:
            grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    note(f"meta-gradient of {name}", grad)
    return found


def first_unsound(numbers: Sequence[Number]) -> str | None:
    """The name of the first number that is not finite."""
    return next((number.name for number in numbers if not number.sound), None)


def examine(agent: Agent, sampler: TaskSampler, seeds: Sequence[int]) -> list[tuple[int, str]]:
    """The tasks of these seeds, each by itself, whose numbers are not finite: task seed, and what is the first."""
    device = next((p.device for p in agent.parameters()), torch.device("cpu"))
    firsts = [(seed, first_unsound(trace(agent, sampler.sample([seed]).to(device)))) for seed in seeds]
    return [(seed, first) for seed, first in firsts if first is not None]


@dataclass(frozen=True)
class Place:
    """Whose tasks are saved: the run's folder, its settings, and how many tasks the agent had learned from."""

    folder: Path
    settings: Settings
    tasks_seen: int

    @classmethod
    def of(cls, track: Track) -> Place:
        """Where a run stands."""
        return cls(track.folder, track.plan.settings, track.at.tasks_seen)


def save(place: Place, agent: Agent, sampler: TaskSampler, split: str, seed: int) -> Path | None:
    """Write one task, and the agent that met it, into the run's folder; returns the file, or None after MOST_SAVED."""
    folder = place.folder / "faults"
    if len(list(folder.glob(f"{split}-*.pt"))) >= MOST_SAVED:
        return None
    task = sampler.sample([seed])
    content = {
        "fault": {"split": split, "tasks_seen": place.tasks_seen, "task_seed": seed},
        "support": [task.support.x, task.support.labels],
        "query": [task.query.x, task.query.labels],
        "spec": dict(vars(agent.spec)),
        "weights": {name: value.clone() for name, value in agent.state_dict().items()},
        "settings": place.settings,
    }
    folder.mkdir(exist_ok=True)
    file = folder / f"{split}-{place.tasks_seen}-{seed}.pt"
    checkpoint.save(file, content)
    return file


def save_diverged(
    place: Place, agent: Agent, sampler: TaskSampler, split: str, seeds: Sequence[int], scores: Sequence[float]
) -> None:
    """Save the evaluated tasks whose predictions were not finite, and say which they are while there is room."""
    bad = [seed for seed, score in zip(seeds, scores, strict=True) if math.isnan(score)]
    files = [save(place, agent, sampler, split, seed) for seed in bad]
    if not bad:
        return
    named, others = f"task {bad[0]}", f" and {len(bad) - 1} more tasks" if len(bad) > 1 else ""
    who = f"{place.settings['agent']} (seed {place.settings['seed']}) after {place.tasks_seen} tasks"
    look = f"; see it: fsl replay {files[0]}" if files[0] else ""
    words = f"fsl: {split} {named}{others} of {who} had predictions that are not finite{look}"
    log.log(logging.WARNING if files[0] else logging.DEBUG, words)


def skipped_step(track: Track, agent: Agent, sampler: TaskSampler, found: Sequence[tuple[int, str]]) -> str:
    """Save the tasks that `examine` found in a step; says in one line what was not finite, and where to look."""
    files = [save(Place.of(track), agent, sampler, "train", seed) for seed, _ in found]
    step = track.at.tasks_seen // agent.config.tasks_per_step + 1
    words = (
        f"step {step} of {track.plan.run.agent} (seed {track.plan.run.seed}) has a loss or gradient that is not finite"
    )
    if not found:
        return (
            f"{words}, though no task of it has one by itself: their sum is too large; lower agent.outer_lr or the like"
        )
    (seed, first), others = found[0], f" (and {len(found) - 1} more tasks)" if len(found) > 1 else ""
    look = f"; see it: fsl replay {files[0]}" if files[0] else ""
    return f"{words}: task {seed}{others}, first in its {first}{look}"
