"""Runs on tasks of different shapes, and on mixtures of domains, through the whole runner."""

import json

import pytest
import torch

import agents
from agents.engine.stack import Stack
from fewshot_env.episode import Episode, Split
from fewshot_env.rng import task_seeds
from fewshot_env.shapes import by_shape
from fewshot_env.sine import SineSampler
from fewshot_env.vector import FewShotVectorEnv
from fewshot_env.worlds.sampler import Glyphs
from runners.evaluation.evaluate import evaluate
from runners.training.step import outer_step
from tests.helpers.cli import SMALL_NET, TINY, main, only_run, result_of, sets
from tests.helpers.runs import assert_close_runs, assert_equal_runs

SINE = ["--env", "sine", "--agent", "maml", "--meta-batch", "4", *sets(*TINY, "env.n_shot=2-5")]
GLYPHS = [*sets(*TINY, *SMALL_NET, "env.n_way=2-3", "env.n_shot=1-2", "env.balanced=false", "env.n_query=2")]


def family(name):
    drawn = Glyphs(n_way=(2, 4), n_shot=(1, 3), n_query=2, balanced=False)
    return {"sine": SineSampler(n_shot=(2, 5)), "glyphs": drawn}[name]


class Exact:
    """A family whose items are float64."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __getattr__(self, name):
        return getattr(self.sampler, name)

    def sample(self, seeds):
        def exact(split):
            return Split(split.x.double(), split.y if split.y.dtype == torch.int64 else split.y.double())

        task = self.sampler.sample(seeds).to("cpu")
        return Episode(exact(task.support), exact(task.query))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["sine", "glyphs"])
def test_the_meta_gradient_is_the_sum_over_the_tasks(name):
    sampler = Exact(family(name))
    agent = agents.make("maml", sampler.spec, inner_steps=1, **({"filters": 4} if name == "glyphs" else {}))
    env, seeds = FewShotVectorEnv(sampler), task_seeds(0, "train", 0, 12)
    agent.train()
    gradients = []
    agent.outer.optimizer.step = lambda: gradients.append(agent.initialization.grad.clone())
    inner, rows = outer_step(Stack([agent]), env, [seeds])
    assert len(inner) > 3
    assert sum(tasks for tasks, _ in inner) == 12
    assert rows[0]["loss"] > 0

    for seed in seeds:
        task = sampler.sample([seed])
        adapted = agent.adapt(task.support)
        scores = agent.predict(adapted, task.query.x)
        if name == "glyphs":
            scores = scores[..., : int(task.support.y.max()) + 1]  # classes that the task does not have are no answers
        agent.outer.add(adapted, scores, task.query.y)
    agent.outer.finish()
    together, alone = gradients
    assert (together - alone).norm() < 1e-9 * alone.norm()


@pytest.mark.parametrize("name", ["sine", "glyphs"])
def test_scores_stand_in_the_order_of_the_tasks(name):
    sampler = family(name)
    agent = agents.make("maml", sampler.spec, inner_steps=1, **({"filters": 4} if name == "glyphs" else {}))
    env, seeds = FewShotVectorEnv(sampler, 5), task_seeds(7, "test", 0, 23)
    assert len(by_shape(sampler, seeds, 5)) > 5
    (scores,) = evaluate(agent, env, seeds)
    one_by_one = [evaluate(agent, env, [seed])[0][0] for seed in seeds]
    assert scores == pytest.approx(one_by_one, rel=1e-4)


def test_an_interrupted_run_goes_on_exactly(tmp_path, monkeypatch):
    import os
    import signal

    main("run", *SINE, "--log-dir", tmp_path / "whole")
    steps = [0]

    def interrupted(*args, **more):
        if steps[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        steps[0] += 1
        return outer_step(*args, **more)

    monkeypatch.setattr("runners.training.trainer.outer_step", interrupted)
    assert main("run", *SINE, "--log-dir", tmp_path / "cut") == 130
    monkeypatch.setattr("runners.training.trainer.outer_step", outer_step)
    assert main("run", "--resume", only_run(tmp_path / "cut")) == 0
    assert_equal_runs(tmp_path)


@pytest.mark.slow
def test_two_processes_are_the_run_of_one(tmp_path):
    assert main("run", *SINE, "--log-dir", tmp_path / "1") == 0
    assert main("run", *SINE, "--processes", 2, "--log-dir", tmp_path / "2") == 0
    assert_close_runs(only_run(tmp_path / "1"), only_run(tmp_path / "2"))


@pytest.mark.slow
def test_seeds_run_one_after_the_other(tmp_path):
    assert main("run", *SINE, "--seeds", 2, "--log-dir", tmp_path / "both") == 0
    assert main("run", *SINE, "--seed", 1, "--log-dir", tmp_path / "one") == 0
    assert_close_runs(only_run(tmp_path / "both") / "seed1", only_run(tmp_path / "one"))


AGENTS = ["maml", "finetuning", "chance"]
MORE_AGENTS = [pytest.param(name, marks=pytest.mark.slow) for name in ("turtle", "lstm", "baseline++", "scratch")]


@pytest.mark.parametrize("agent", AGENTS + MORE_AGENTS)
def test_every_agent_on_a_mixture_of_unequal_tasks(agent, tmp_path, capsys):
    settings = [word for word in GLYPHS if agent in ("maml", "turtle", "lstm") or "inner_steps" not in word]
    settings = [*sets(*[w for w in settings if w != "--set" and (agent != "chance" or not w.startswith("agent."))])]
    assert main("run", "--env", "glyphs+textures->textures", "--agent", agent, *settings, "--log-dir", tmp_path) == 0
    said = capsys.readouterr().out
    assert "test on textures" in said
    assert "(chance" not in said  # it differs from task to task
    result = result_of(only_run(tmp_path))
    assert result["env"] == "glyphs+textures->textures"
    assert len(result["scores"]) == 8
    assert json.loads((only_run(tmp_path) / "config.json").read_text())["settings"]["env.n_way"] == [2, 3]
    assert main("eval", only_run(tmp_path), "--env", "glyphs+textures", "--tasks", 4) == 0


@pytest.mark.slow
def test_reports_and_replays_know_only_the_classes_that_a_task_has(tmp_path):
    from fewshot_env.render import contact_sheet
    from runners.evaluation.non_finite import trace

    sampler = family("glyphs")
    agent = agents.make("maml", sampler.spec, inner_steps=1, filters=4)
    for seed in task_seeds(0, "test", 0, 12):
        task = sampler.sample([seed]).to("cpu")
        n_way = int(task.support.y.max()) + 1
        agent.eval()
        scores = task.restrict(agent.predict(agent.adapt(task.support), task.query.x))
        assert scores.shape[2] == n_way
        loss = {number.name: number.value for number in trace(agent, task)}["query loss"]
        expected = torch.nn.functional.cross_entropy(scores.flatten(0, 1), task.query.y.flatten())
        assert loss == pytest.approx(expected.item(), rel=1e-4)
        height = contact_sheet(sampler.spec, task, scores[0]).shape[0]
        assert height == n_way * (28 + 2) + 2  # a row for each class, with a gap of 2 pixels
    words = ["run", "--env", "glyphs", "--agent", "maml", *GLYPHS, "--log-dir", tmp_path]
    assert main(*words) == 0
    assert main("report", only_run(tmp_path)) == 0
    page = (only_run(tmp_path) / "report.html").read_text()
    assert "8 test tasks (their query sets)" in page
    assert "Not shown" not in page


def test_bad_ranges(capsys):
    assert main("run", "--env", "glyphs", "--agent", "maml", "--set", "env.n_way=5-3") == 2
    assert "env.n_way is '5-3', but: it must be a whole number from 2 to 10000" in capsys.readouterr().err
