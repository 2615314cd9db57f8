"""The figures of a report, section by section."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.base import Agent
from agents.charts import Chart
from fewshot_env.episode import Episode, Split
from fewshot_env.render import draw, plot_curves, shades
from fewshot_env.shapes import by_shape
from runners.config.named import verify_named
from runners.config.plan import Plan, make_plan
from runners.evaluation.evaluate import frozen_seeds
from runners.evaluation.retest import best_agent
from runners.loggers.plot import plot_chart
from runners.loggers.show import evaluating, predictions_by_step, sample_tasks
from runners.reporting.figure_files import svg
from runners.storage.charts import read_charts
from runners.storage.schemas import drawable, read_settings

TASKS = 40
"""The number of test tasks whose adaptation is shown step by step."""

BLUE, RED = "#4c8bd6", "#d9534f"
Rows = dict[int, dict[str, float]]


@dataclass(frozen=True)
class Figure:
    """An HTML element, and its caption as text."""

    content: str
    caption: str


Section = tuple[str, str, list[Figure]]  # heading, note, figures


def learning(rows: Rows, result: dict[str, Any]) -> Section:
    """Training and validation over the tasks seen, and the support loss by inner step."""
    metric = result["metric"]

    def curves(axes: Any) -> None:
        _line(axes, rows, "train/loss" if metric == "mse" else "train/score", label="train", color=BLUE, alpha=0.7)
        _line(axes, rows, f"val/{metric}", label="val, 95 % interval", color=RED, marker="o", markersize=3)
        ends = ((tasks, row.get("val/low"), row.get("val/high")) for tasks, row in rows.items())
        both = [end for end in ends if all(map(drawable, end))]
        if both:
            tasks, low, high = zip(*both, strict=True)
            axes.fill_between(tasks, low, high, color=RED, alpha=0.2, linewidth=0)
        axes.axvline(result["best_at_tasks"], color=RED, linestyle=":", label="best")
        axes.set(xlabel="training tasks", ylabel=metric)
        axes.legend()

    def inner(axes: Any) -> None:
        for tag, shade in zip(steps, shades(len(steps)), strict=True):
            _line(axes, rows, tag, label=f"before step {int(tag.split('_')[-1]) + 1}", color=shade)
        axes.set(xlabel="training tasks", ylabel="loss on the support set")
        axes.legend()

    tags = {tag for row in rows.values() for tag in row}
    steps = sorted((t for t in tags if re.fullmatch(r"inner/loss_[0-9]{1,9}", t)), key=lambda t: int(t.split("_")[-1]))
    figures = []
    if f"val/{metric}" in tags:
        figures.append(Figure(svg("learning", curves), "Training tasks (query sets) and frozen validation tasks."))
    if steps:
        figures.append(Figure(svg("inner loop", inner), "The inner loop in training, by its steps."))
    return "Learning", "", figures


def _line(axes: Any, rows: Rows, tag: str, **style: Any) -> None:
    found = [(tasks, row[tag]) for tasks, row in rows.items() if drawable(row.get(tag))]
    if found:
        axes.plot(*zip(*found, strict=True), **style)


def test_scores(result: dict[str, Any]) -> Section:
    """How the scores of the test tasks are distributed."""
    scores = np.array([score for score in result["scores"] if score is not None])
    if not len(scores):
        return "Test", "Every task diverged.", []

    def histogram(axes: Any) -> None:
        most = np.quantile(scores, 0.99) if result["metric"] == "mse" else 1.0
        axes.hist(np.minimum(scores, most), bins=30, range=(0, most), color=BLUE, alpha=0.85)
        for name, style in (("mean", "-"), ("median", ":")):
            if result[name] is not None:
                axes.axvline(result[name], color=RED, linestyle=style, label=f"{name} {result[name]:.3f}")
        axes.set(xlabel=result["metric"], ylabel="test tasks")
        axes.legend()

    beyond = " The last bar holds the worst 1 %." if result["metric"] == "mse" else ""
    lost = result["tasks"] - len(scores)
    beyond += f" {lost} tasks whose scores are not finite are not shown." if lost else ""
    return "Test", "", [Figure(svg("test", histogram), f"{result['tasks']} frozen test tasks.{beyond}")]


def adaptation(folder: Path, named: Iterable[str | None]) -> list[Section]:
    """How the best weights adapt to test tasks, step by step, and the first of these tasks as a picture.

    named: classes of the caller's own that the run may name.
    """
    settings = read_settings(folder)
    verify_named(folder, settings, named)
    plan = make_plan(settings)
    agent, _ = best_agent(plan, folder)
    with evaluating(agent):
        return [("Adaptation", "", [*scores_by_step(plan, agent), *episode_figures(plan, agent)])]


def scores_by_step(plan: Plan, agent: Agent) -> list[Figure]:
    """The scores of some test tasks after every inner step."""
    env, seeds = plan.make_env("test", plan.run.eval_batch), frozen_seeds("test", min(TASKS, plan.run.test_tasks))
    found = []
    for part in by_shape(env.sampler, seeds, env.num_envs):
        task = sample_tasks(env, [seeds[i] for i in part])
        way = [task.restrict(agent.predict(adapted, task.query.x)) for adapted in agent.trajectory(task.support)]
        found.append(torch.stack([plan.spec.score(p, task.query.labels) for p in way], 1).cpu())
    scores = np.vectorize(plan.spec.reported)(torch.cat(found).numpy())  # [tasks, T + 1]

    def plot(axes: Any) -> None:
        steps = range(scores.shape[1])
        axes.plot(steps, scores.T, color=BLUE, alpha=0.25, linewidth=0.8)
        axes.plot(steps, np.nanmean(scores, 0), color=RED, marker="o", markersize=4, linewidth=2, label="mean")
        axes.set(xlabel="inner step", ylabel=plan.spec.metric, xticks=_at_most(list(steps), 11))
        axes.legend()

    caption = f"{len(scores)} test tasks (their query sets) before the adaptation and after each of its steps."
    if scores.shape[1] == 2:
        caption = f"{len(scores)} test tasks (their query sets) before and after the adaptation."
    return [Figure(svg("adaptation", plot), caption)]


def _at_most(values: list[int], count: int) -> list[int]:
    return values[:: -(-len(values) // count)]


def episode_figures(plan: Plan, agent: Agent) -> list[Figure]:
    """The first test task: its contact sheet with the predictions, or a curve for each output by inner step."""
    task = sample_tasks(plan.make_env("test", 1), frozen_seeds("test", 1))
    answers = predictions_by_step(agent, task)
    if plan.spec.kind == "regression" and plan.spec.in_shape == (1,):
        many, figures = plan.spec.n_outputs > 1, []
        for i in range(plan.spec.n_outputs):
            one = Episode(_output(task.support, i), _output(task.query, i))
            curves = {name: values[:, i : i + 1] for name, values in answers.items()}
            content = svg(f"episode y{i}" if many else "episode", partial(plot_curves, task=one, answers=curves))
            caption = (
                f"The first test task{f', output {i}' if many else ''}: the curve before and after the inner steps."
            )
            figures.append(Figure(content, caption))
        return figures
    picture = draw(plan.spec, task, answers)
    if picture is None:
        return []
    caption = "The first test task. Each row is a class: its support images (grey), then the query images predicted as "
    caption += "this class, correctly (green) or not (red)."
    return [Figure(_image(picture), caption)]


def _output(split: Split, i: int) -> Split:
    """The items with only output `i` of their answers."""
    return Split(split.x, split.labels[..., i : i + 1])


def _image(picture: Any) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", optimize=True)
    return f'<img alt="test episode" src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def learned(folder: Path) -> Section:
    """Every chart of the agent at the last validation, and how its first curve changed during training."""
    figures = []
    for name, found in read_charts(folder).items():
        last_at, last = found[-1]
        figures.append(Figure(svg(name, partial(plot_chart, chart=last)), f"{name}, after {last_at} training tasks."))
        for first in list(last.lines)[:1] if len(found) > 2 else []:
            caption = f'{name}, "{first}", during training.'
            figures.append(Figure(svg(f"{name} over time", partial(over_time, found=found, line=first)), caption))
    return "What was learned", "", figures


def over_time(axes: Any, found: Sequence[tuple[int, Chart]], line: str) -> None:
    """One line of a chart at up to five validations."""
    found = [(tasks, chart) for tasks, chart in found if line in chart.lines]
    chosen = sorted({round(i) for i in np.linspace(0, len(found) - 1, 5)})
    for i, shade in zip(chosen, shades(len(chosen)), strict=True):
        tasks, chart = found[i]
        axes.plot(chart.x.numpy(), chart.lines[line].numpy(), color=shade, label=f"{tasks} tasks")
    axes.set(xlabel=found[-1][1].x_label, ylabel=found[-1][1].y_label)
    axes.legend()
