"""What a run logs of its agent besides scores: at every validation, and once after the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from fewshot_env.episode import Episode
from fewshot_env.render import draw
from fewshot_env.shapes import by_shape
from fewshot_env.vector import FewShotVectorEnv
from runners.loggers.all_loggers import Loggers
from runners.loggers.plot import picture_of_chart
from runners.storage.charts import as_plain

FEW = 4
"""Number of tasks that charts and the numbers of the inner loop are taken from."""


@contextmanager
def evaluating(agent: Agent) -> Iterator[None]:
    """Eval mode without gradients inside the block; the agent's own mode afterwards."""
    mode = agent.training
    agent.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        agent.train(mode)


def sample_tasks(env: FewShotVectorEnv, seeds: Sequence[int]) -> Episode:
    """Tasks with their answers, on the agent's device."""
    return env.sampler.sample(list(seeds)).to(env.device)


def show_validation(loggers: Loggers, agent: Agent, env: FewShotVectorEnv, seeds: list[int], tasks_seen: int) -> None:
    """Log a validation episode, the inner loop by its steps, and what the agent has learned."""
    with evaluating(agent):
        few = by_shape(env.sampler, seeds, FEW)[0]
        support = sample_tasks(env, [seeds[i] for i in few]).support
        inner, charts = agent.inspect(agent.trajectory(support)[-1]), agent.charts(support)
        show_episode(loggers, agent, sample_tasks(env, seeds[:1]), "val", tasks_seen)
    if inner:
        loggers.write(tasks_seen, {f"val_inner/{name}": value for name, value in inner.items()})
    for name, chart in charts.items():
        loggers.picture(f"learned/{name}", picture_of_chart(chart, f"after {tasks_seen} tasks"), tasks_seen)
        loggers.charts.write(tasks_seen, {"name": name, **as_plain(chart)})
    for name, values in agent.distributions().items():
        loggers.histogram(name, values, tasks_seen)


def show_test(loggers: Loggers, agent: Agent, env: FewShotVectorEnv, seeds: list[int], tasks_seen: int) -> None:
    """Log a test episode, and the features that the adapted agent computes of its query items."""
    task = sample_tasks(env, seeds[:1])
    with evaluating(agent):
        show_episode(loggers, agent, task, "test", tasks_seen)
        adapted = agent.adapt(task.support)
        features = agent.embed(adapted, task.query.x)
        answers = task.restrict(agent.predict(adapted, task.query.x))[0]
    if features is not None:
        images = task.query.x[0] if len(agent.spec.in_shape) == 3 and agent.spec.in_shape[0] in (1, 3) else None
        loggers.embedding("test_episode", features[0], labels(agent, task, answers), images, tasks_seen)


def show_episode(loggers: Loggers, agent: Agent, task: Episode, split: str, tasks_seen: int) -> None:
    """Log a picture of the task with the agent's predictions: a contact sheet, or curves by inner step."""
    loggers.picture(f"{split}/episode", draw(agent.spec, task, predictions_by_step(agent, task)), tasks_seen)


def predictions_by_step(agent: Agent, task: Episode, most: int = 6) -> dict[str, Tensor]:
    """The predictions for task 0 [Q, N] before the adaptation, after up to `most` - 2 of its steps, and at its end."""
    way = agent.trajectory(task.support)
    chosen = sorted({round(i) for i in torch.linspace(0, len(way) - 1, min(most, len(way))).tolist()})
    names = ["before", *(f"after step {t}" for t in range(1, len(way)))] if len(way) > 2 else ["before", "after"]
    return {names[t]: task.restrict(agent.predict(way[t], task.query.x))[0] for t in chosen}


def labels(agent: Agent, task: Episode, answers: Tensor) -> dict[str, list[Any]]:
    """A label for each query item by column: the true and the predicted class, or the true and predicted values."""
    truth = task.query.labels[0]
    if agent.spec.kind == "classification":
        given = answers.argmax(-1)
        return {"class": truth.tolist(), "answer": given.tolist(), "right": (given == truth).tolist()}
    many = agent.spec.n_outputs > 1
    return {
        f"{name}{i if many else ''}": [round(v, 3) for v in values[:, i].tolist()]
        for i in range(agent.spec.n_outputs)
        for name, values in (("y", truth), ("answer", answers))
    }
