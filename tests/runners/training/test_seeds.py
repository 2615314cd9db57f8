"""Several seeds side by side, and meta-batches in parts: each is the run it would be alone."""

import json
import os
import signal

import pytest

from tests.helpers.cli import IMAGES, SMALL_NET, TINY, main, only_run, result_of, sets
from tests.helpers.runs import assert_close_runs

SINE = ["--env", "sine", "--agent", "maml", "--meta-batch", "4", *sets(*TINY)]


@pytest.mark.parametrize(
    "agent", ["maml", *(pytest.param(name, marks=pytest.mark.slow) for name in ("turtle", "lstm"))]
)
def test_seeds_side_by_side_equal_their_own_runs(agent, tmp_path, capsys):
    words = ["run", "--env", "sine", "--agent", agent, *sets(*TINY)]
    assert main(*words, "--seed", 3, "--seeds", 3, "--log-dir", tmp_path / "together") == 0
    assert "95 % interval over 3 seeds" in capsys.readouterr().out
    group = only_run(tmp_path / "together")
    assert sorted(p.name for p in group.iterdir()) == ["seed3", "seed4", "seed5"]
    for seed in (3, 5):
        assert main(*words, "--seed", seed, "--log-dir", tmp_path / str(seed)) == 0
        assert_close_runs(group / f"seed{seed}", only_run(tmp_path / str(seed)))
        both = group / f"seed{seed}", only_run(tmp_path / str(seed))
        assert (both[0] / "config.json").read_text() == (both[1] / "config.json").read_text()
    assert main("eval", group / "seed4", "--tasks", 8) == 0


def test_seeds_whose_best_weights_are_of_different_moments(tmp_path):
    """Their optimizers have taken different numbers of steps, which a test does not ask for."""
    words = ["run", "--env", "sine", "--agent", "maml", *sets(*TINY, "train_tasks=60", "agent.outer_lr=0.05")]
    assert main(*words, "--seeds", 4, "--log-dir", tmp_path) == 0
    runs = [only_run(tmp_path) / f"seed{s}" for s in range(4)]
    assert len({result_of(run)["best_at_tasks"] for run in runs}) > 1
    assert main("eval", runs[3]) == 0
    again = json.loads(next(runs[3].glob("eval-*.json")).read_text())
    assert again["scores"] == pytest.approx(result_of(runs[3])["scores"], rel=1e-4)


def test_stopped_seeds_go_on_together(tmp_path, monkeypatch, capsys):
    from runners.training import trainer as train

    words = ["run", *SINE, "--seeds", 2, "--log-dir"]
    main(*words, tmp_path / "whole")
    real, steps = train.outer_step, [0]

    def step(*arguments, **more):
        steps[0] += 1
        if steps[0] == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **more)

    monkeypatch.setattr(train, "outer_step", step)
    assert main(*words, tmp_path / "cut") == 130
    group = only_run(tmp_path / "cut")
    assert f"fsl run --resume {group}" in capsys.readouterr().err
    before = steps[0]
    assert main("run", "--resume", group) == 0
    assert steps[0] - before == 2  # 24 tasks, 4 at a time, for both runs at once
    for seed in (0, 1):
        assert_close_runs(group / f"seed{seed}", only_run(tmp_path / "whole") / f"seed{seed}", rel=1e-9)
    assert main("run", "--resume", group) == 2
    assert "is finished" in capsys.readouterr().err


@pytest.mark.slow
def test_seeds_of_other_agents_run_one_after_the_other(tmp_path, data_dir):
    words = ["run", "--env", "mini", "--agent", "maml", "--data-dir", data_dir, "--seeds", 2, "--log-dir", tmp_path]
    assert main(*words, *sets(*TINY, *SMALL_NET, *IMAGES, "agent.meta_batch=2")) == 0
    scores = [result_of(only_run(tmp_path) / f"seed{s}")["scores"] for s in (0, 1)]
    assert scores[0] != scores[1]


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_meta_batch_in_parts(at_once, tmp_path, data_dir):
    """Conv4 takes tasks one by one on a CPU; two at a time, or in uneven parts, is the same run."""
    words = ["run", "--env", "mini", "--agent", "turtle", "--data-dir", data_dir, "--meta-batch", 4]
    tiny = sets(*TINY, *SMALL_NET, *IMAGES, "train_tasks=12")
    main(*words, *tiny, *sets("agent.at_once=4"), "--log-dir", tmp_path / "whole")
    main(*words, *tiny, *sets(f"agent.at_once={at_once}"), "--log-dir", tmp_path / "parts")
    assert_close_runs(only_run(tmp_path / "whole"), only_run(tmp_path / "parts"), rel=1e-3)
