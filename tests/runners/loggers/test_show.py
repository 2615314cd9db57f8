"""What is shown of an agent: columns of an embedding, and curves, for one output or several."""

from types import SimpleNamespace

import pytest
import torch

import agents
from fewshot_env.episode import Episode, Split, TaskSpec
from runners.loggers.show import labels, predictions_by_step
from runners.reporting import report_figures


def regression(outputs):
    """An agent and a task of regression with so many outputs."""
    spec = TaskSpec("regression", (1,), outputs, 1, (-5, 5), (-10, 10))
    agent = agents.make("maml", spec, hidden=(6, 5), inner_steps=2)
    x = torch.linspace(-2, 2, 7).view(1, 7, 1)
    y = torch.cat([(i + 1) * x for i in range(outputs)], -1)
    return agent, Episode(Split(x, y), Split(x, y))


@pytest.mark.parametrize(("outputs", "columns"), [(1, ["y", "answer"]), (2, ["y0", "answer0", "y1", "answer1"])])
def test_an_embedding_has_a_column_for_each_output(outputs, columns):
    agent, task = regression(outputs)
    found = labels(agent, task, torch.full((7, outputs), 0.12345))
    assert list(found) == columns
    assert found[columns[-2]] == pytest.approx([round(outputs * x, 3) for x in task.query.x[0, :, 0].tolist()])
    assert found[columns[-1]] == [0.123] * 7


@pytest.mark.parametrize(("outputs", "titles"), [(1, ["episode"]), (2, ["episode y0", "episode y1"])])
def test_a_report_has_a_curve_for_each_output(outputs, titles, monkeypatch):
    agent, task = regression(outputs)
    monkeypatch.setattr(report_figures, "sample_tasks", lambda env, seeds: task)
    plan = SimpleNamespace(spec=agent.spec, make_env=lambda split, batch: None)
    with torch.no_grad():
        assert [tuple(v.shape) for v in predictions_by_step(agent, task).values()] == [(7, outputs)] * 3
    figures = report_figures.episode_figures(plan, agent)
    assert len(figures) == len(titles)
    assert all(f'aria-label="{title}"' in figure.content for title, figure in zip(titles, figures, strict=True))
