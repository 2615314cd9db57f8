"""Numbers that are not finite: where they first appear in a task, and the task saved for `fsl replay`."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents import registry
from agents.base import Agent
from agents.saved import describe, spec_from
from fewshot_env.episode import Episode, Split
from fewshot_env.errors import FewShotError, command
from fewshot_env.sampler import TaskSampler
from fewshot_env.settings import validate
from runners.config.named import verify_named
from runners.config.settings import section, upgraded
from runners.console.output import log
from runners.storage import checkpoint
from runners.storage.checkpoint import RunPlace

MAX_SAVED = 5  # files per run and split: more would say the same


class Number(NamedTuple):
    """A quantity of an episode: its value, or its largest magnitude where it is an array, and whether all is finite."""

    name: str
    value: float
    finite: bool


def is_finite(row: Mapping[str, float]) -> bool:
    """Whether an outer step was taken: a custom agent may not say so, but has a loss."""
    return not row["skipped"] if "skipped" in row else math.isfinite(row.get("loss", 0.0))


def trace(agent: Agent, episode: Episode) -> list[Number]:
    """An episode's numbers in the order in which they are computed; the agent, in its mode, is left as it is.

    episode: one task with the query's answers. In train mode the last numbers are the meta-gradient, by parameter.
    """
    twin = copy.deepcopy(agent)
    found: list[Number] = []

    def note(name: str, value: Tensor) -> None:
        is_finite = bool(value.isfinite().all())
        value = value.detach()
        found.append(Number(name, float(value.abs().max() if value.dim() else value), is_finite))

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
        note("query loss", twin.spec.loss(predictions.detach(), episode.query.labels).sum())
        if twin.training and twin.learns:
            twin.zero_grad(set_to_none=True)
            twin.meta_gradient(adapted, predictions, episode.query.labels)
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    note(f"meta-gradient of {name}", parameter.grad)
    return found


def first_non_finite(numbers: Sequence[Number]) -> str | None:
    """The name of the first number that is not finite."""
    return next((number.name for number in numbers if not number.finite), None)


def examine(agent: Agent, sampler: TaskSampler, seeds: Sequence[int]) -> list[tuple[int, str]]:
    """The tasks of these seeds, each by itself, whose numbers are not finite: task seed, and what is the first."""
    device = next((p.device for p in agent.parameters()), torch.device("cpu"))
    firsts = [(seed, first_non_finite(trace(agent, sampler.sample([seed]).to(device)))) for seed in seeds]
    return [(seed, first) for seed, first in firsts if first is not None]


def save(place: RunPlace, agent: Agent, sampler: TaskSampler, split: str, seed: int) -> Path | None:
    """Write one task, and the agent that met it, into the run's folder; returns the file, or None after MAX_SAVED."""
    folder = place.folder / "faults"
    if len(list(folder.glob(f"{split}-*.pt"))) >= MAX_SAVED:
        return None
    task = sampler.sample([seed])
    content = {
        "fault": {"split": split, "tasks_seen": place.tasks_seen, "task_seed": seed},
        "support": [task.support.x, task.support.labels],
        "query": [task.query.x, task.query.labels],
        **{key: value for key, value in describe(agent).items() if key in ("spec", "spec_class")},
        "weights": {name: value.clone() for name, value in agent.state_dict().items()},
        "settings": place.settings,
    }
    folder.mkdir(exist_ok=True)
    file = folder / f"{split}-{place.tasks_seen}-{seed}.pt"
    checkpoint.save(file, content)
    return file


def save_diverged(
    place: RunPlace, agent: Agent, sampler: TaskSampler, split: str, seeds: Sequence[int], scores: Sequence[float]
) -> None:
    """Save the evaluated tasks whose predictions were not finite, and say which they are while there is room."""
    bad = [seed for seed, score in zip(seeds, scores, strict=True) if math.isnan(score)]
    files = [save(place, agent, sampler, split, seed) for seed in bad]
    if not bad:
        return
    named, others = f"task {bad[0]}", f" and {len(bad) - 1} more tasks" if len(bad) > 1 else ""
    who = f"{place.settings['agent']} (seed {place.settings['seed']}) after {place.tasks_seen} tasks"
    look = f"; see it: {command('fsl', 'replay', files[0])}" if files[0] else ""
    words = f"fsl: {split} {named}{others} of {who} had predictions that are not finite{look}"
    log.log(logging.WARNING if files[0] else logging.DEBUG, words)


def skipped_step(place: RunPlace, agent: Agent, sampler: TaskSampler, found: Sequence[tuple[int, str]]) -> str:
    """Save the tasks that `examine` found in a step; says in one line what was not finite, and where to look."""
    files = [save(place, agent, sampler, "train", seed) for seed, _ in found]
    step = place.tasks_seen // agent.config.tasks_per_step + 1
    words = (
        f"step {step} of {place.settings['agent']} (seed {place.settings['seed']}) has a loss or gradient that is not "
        "finite"
    )
    if not found:
        return (
            f"{words}, though no task of it has one by itself: their sum is too large; lower agent.outer_lr or the like"
        )
    (seed, first), others = found[0], f" (and {len(found) - 1} more tasks)" if len(found) > 1 else ""
    look = f"; see it: {command('fsl', 'replay', files[0])}" if files[0] else ""
    return f"{words}: task {seed}{others}, first in its {first}{look}"


def replay(file: Path, named: Iterable[str | None] = ()) -> tuple[str, list[Number]]:
    """Compute a saved episode again with the agent as it was.

    Args:
        file: RUN/faults/*.pt, as `save` wrote it.
        named: classes of the caller's own that the file may name (module:Class).

    Returns:
        A title (the agent, the task, and when it was met), and the numbers as `trace` gives them.

    Raises:
        FewShotError: where there is no such file, it is no saved episode, or its agent is not there.
    """
    if not file.is_file():
        raise FewShotError(f"there is no file {file}; name an episode that a run saved, RUN/faults/*.pt")
    content = checkpoint.load(file)
    try:
        agent, episode, task = _saved(content, file, named)
        title = f"{content['settings']['agent']}, {task['split']} task {task['task_seed']}"
        return f"{title}, met after {task['tasks_seen']} tasks", trace(agent, episode)
    except FewShotError:  # for example an agent that is not there
        raise
    except Exception as error:  # whatever a file of another format leads to
        raise FewShotError(f"{file} is not a saved episode; name a file of a run's folder faults/") from error


def _saved(
    content: Mapping[str, Any], file: Path, named: Iterable[str | None]
) -> tuple[Agent, Episode, dict[str, Any]]:
    """The agent in its mode, the task that it met, and what `save` noted about it."""
    spec, weights, task = spec_from(content), dict(content["weights"]), content["fault"]
    episode = Episode(Split(*content["support"]), Split(*content["query"])).to("cpu")
    training = {"split", "task_seed", "tasks_seen"} <= set(task) and task["split"] == "train"
    registry.load_plugins()  # after the above: no code is imported for a file of another format
    verify_named(file, upgraded(content["settings"]) | {"env": None}, named)
    cls = registry.find(content["settings"]["agent"]).load()
    agent = cls(spec, validate(cls.Config, section(upgraded(content["settings"]), "agent"), "agent."))
    agent.load_state_dict(weights)
    return agent.train(training), episode, task
