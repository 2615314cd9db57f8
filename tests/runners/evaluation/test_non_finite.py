"""Numbers that are not finite: found where they appear, named, saved, replayed, and handled as `on_nan` says."""

import json
import re

import pytest
import torch

from fewshot_env.rng import task_seeds
from runners.evaluation.evaluate import frozen_seeds
from runners.storage import checkpoint
from tests.helpers.cli import SMALL_NET, TINY, main, only_run, result_of, sets

BREAKS = """
import math
import torch
from agents.maml import MAML

class Breaks(MAML):
    '''Where the first support answer exceeds a bound, the adapted weights are not finite.'''
    bound = 1.5

    def adapt(self, support):
        bad = (support.labels[:, :1, 0] > self.bound).any(1, keepdim=True)
        adapted = super().adapt(support)
        return type(adapted)(adapted.params + torch.where(bad, math.inf, 0.0), adapted.losses, adapted.stats)

class Rarely(Breaks):
    bound = 3.0

class Mostly(Breaks):
    bound = -1.5
"""
WORDS = ["run", "--env", "sine", "--set", "agent.meta_batch=2", "--set", "agent.inner_steps=3"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text(BREAKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def breaking(seeds, bound=1.5):
    """The tasks that `Breaks` breaks on."""
    from fewshot_env.sine import SineSampler

    first = SineSampler().sample(seeds).support.labels[:, 0, 0]
    return [seed for seed, y in zip(seeds, first.tolist(), strict=True) if y > bound]


def test_a_step_that_is_not_finite_is_skipped_named_and_saved(here, capsys):
    assert main(*WORDS, "--agent", "breaks:Breaks", "--log-dir", here / "runs", *sets(*TINY)) == 0
    out, err = capsys.readouterr()
    run = only_run(here / "runs")
    bad = breaking(task_seeds(0, "train", 0, 24))
    steps = [i for i in range(12) if breaking(task_seeds(0, "train", 2 * i, 2))]
    assert 0 < len(steps) < 12
    result = result_of(run)
    assert result["skipped_steps"] == len(steps)
    assert f"{len(steps)} training steps skipped" in out
    assert (
        f"step {steps[0] + 1} of breaks:Breaks (seed 0) has a loss or gradient that is not finite: task {bad[0]}" in err
    )
    assert "first in its query predictions" in err
    saved = (run / "faults").glob("train-*.pt")
    assert sorted(int(f.stem.split("-")[-1]) for f in saved) == sorted(bad[:5])
    assert all(v.isfinite().all() for v in checkpoint.load(run / "last.pt")["agent"]["weights"].values())

    file = re.search(r"fsl replay (\S+);", err).group(1)
    assert main("replay", file) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"breaks:Breaks, train task {bad[0]}, met after {2 * steps[0]} tasks"
    assert [line.split()[:2] for line in shown if "support loss" in line] == [
        ["support", f"loss_{i}"] for i in range(3)
    ]
    assert [line for line in shown if "<- the first" in line] == [line for line in shown if "query predictions" in line]
    assert any("meta-gradient of initialization" in line and "nan" in line for line in shown)


def test_tasks_that_diverge_in_an_evaluation_are_counted_and_saved(here, capsys):
    main(*WORDS, "--agent", "breaks:Breaks", "--log-dir", here / "runs", *sets(*TINY, "test_tasks=30"))
    run = only_run(here / "runs")
    bad = breaking(frozen_seeds("test", 30))
    assert result_of(run)["diverged"] == len(bad) > 0
    assert sorted(int(f.stem.split("-")[-1]) for f in (run / "faults").glob("test-*.pt")) == sorted(bad[:5])
    capsys.readouterr()
    assert main("replay", next((run / "faults").glob("test-*.pt"))) == 0
    assert "query predictions" in next(x for x in capsys.readouterr().out.splitlines() if "<- the first" in x)


def test_a_run_most_of_whose_tasks_diverge_is_reported_everywhere(here, capsys):
    few = sets("train_tasks=4", "val_every=4", "val_tasks=4", "test_tasks=30")
    assert main(*WORDS, "--agent", "breaks:Mostly", "--log-dir", here / "runs", *few) == 0
    run, bad = only_run(here / "runs"), breaking(frozen_seeds("test", 30), -1.5)
    assert 15 < len(bad) < 30
    result = result_of(run)
    assert (result["median"], result["diverged"]) == (None, len(bad))
    told = capsys.readouterr()
    assert f"median not finite, {len(bad)} diverged" in told.out
    assert f"test task {bad[0]} and {len(bad) - 1} more tasks of breaks:Mostly (seed 0) after" in told.err
    assert "val task" in told.err
    assert result["best_at_tasks"] == checkpoint.load(run / "best.pt")["tasks_seen"] == 4  # no validation was finite
    assert main("runs", here / "runs") == 0
    assert f", {len(bad)} diverged" in capsys.readouterr().out
    assert main("eval", run, "--set", "test_tasks=31") == 0
    told = capsys.readouterr()
    assert "median not finite" in told.out
    file = re.search(r"fsl replay (\S+)", told.err).group(1)
    assert "/faults/eval-sine-" in file
    assert main("replay", file) == 0
    assert main("report", run) == 0
    assert f"{len(bad)} tasks whose scores are not finite" in (run / "report.html").read_text()


def test_stop_is_a_policy_too(here, capsys):
    assert main(*WORDS, "--agent", "breaks:Breaks", "--log-dir", here / "runs", *sets(*TINY, "on_nan=stop")) == 2
    assert "has a loss or gradient that is not finite: task" in capsys.readouterr().err
    run = only_run(here / "runs")
    assert not (run / "result.json").exists()
    assert checkpoint.load(run / "last.pt")["skipped"] == 0
    assert main(*WORDS, "--agent", "breaks:Breaks", *sets(*TINY, "on_nan=perhaps")) == 2
    assert "setting on_nan is 'perhaps'" in capsys.readouterr().err


def test_a_real_divergence_is_found_in_the_inner_loop(here, capsys):
    words = ["run", "--env", "sine", "--agent", "maml", "--log-dir", here / "runs"]
    huge = sets(*TINY, "agent.inner_lr=1e30", "agent.inner_steps=4", "agent.inner_clip=null", "agent.task_clip=null")
    assert main(*words, *huge) == 0
    out, err = capsys.readouterr()
    assert "24 training steps skipped" in out
    assert "all 8 tasks diverged" in out
    assert "first in its support loss_1" in err
    assert err.count("the step was skipped") == 5


@pytest.mark.slow
def test_seeds_side_by_side_name_their_own(here, capsys):
    assert main(*WORDS, "--agent", "breaks:Rarely", "--seeds", 3, "--log-dir", here / "runs", *sets(*TINY)) == 0
    err, group = capsys.readouterr().err, only_run(here / "runs")
    for seed in range(3):
        steps = [i for i in range(12) if breaking(task_seeds(seed, "train", 2 * i, 2), 3.0)]
        assert result_of(group / f"seed{seed}")["skipped_steps"] == len(steps)
        assert (f"(seed {seed})" in err) is bool(steps)


def test_examining_changes_nothing(here):
    from agents.registry import find
    from fewshot_env.sine import SineSampler
    from runners.evaluation.non_finite import examine

    agent = find("turtle").load()
    agent = agent(SineSampler().spec, agent.Config()).train()
    with torch.no_grad():
        agent.initialization[0, 0] = torch.nan
    before, rng = agent.initialization.clone(), torch.get_rng_state()
    assert examine(agent, SineSampler(), [3, 4]) == [(3, "parameter initialization"), (4, "parameter initialization")]
    assert torch.equal(before[0, 1:], agent.initialization[0, 1:])
    assert agent.initialization.grad is None
    assert torch.equal(rng, torch.get_rng_state())


def test_what_is_no_saved_episode(tmp_path, capsys):
    main("run", "--env", "sine", "--agent", "maml", "--log-dir", tmp_path, *sets(*TINY))
    run = only_run(tmp_path)
    (tmp_path / "noise.pt").write_bytes(b"noise")
    for file, message in (
        (run / "last.pt", "is not a saved episode"),
        (tmp_path / "noise.pt", "is damaged or not one of ours"),
        (tmp_path / "none.pt", "there is no"),
    ):
        capsys.readouterr()
        assert main("replay", file) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.slow
def test_images_are_replayed_without_their_store(tmp_path, data_dir, capsys, monkeypatch):
    (tmp_path / "breaks_images.py").write_text(
        "from agents.maml import MAML\nclass Images(MAML):\n    def predict(self, adapted, x):\n"
        "        return super().predict(adapted, x) * (1e39 if self.training else 1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [
        "run",
        "--env",
        "mini",
        "--agent",
        "breaks_images:Images",
        "--data-dir",
        data_dir,
        "--log-dir",
        tmp_path / "runs",
    ]
    tiny = sets(*TINY, *SMALL_NET, "env.n_way=3", "env.n_query=2", "agent.meta_batch=2", "agent.bn=running")
    assert main(*words, *tiny) == 0
    run = only_run(tmp_path / "runs")
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["on_nan"] == "skip"
    monkeypatch.setenv("FSL_HOME", str(tmp_path / "nowhere"))
    capsys.readouterr()
    assert main("replay", next((run / "faults").glob("train-*.pt"))) == 0
    assert "query predictions" in next(x for x in capsys.readouterr().out.splitlines() if "<- the first" in x)
