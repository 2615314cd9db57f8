"""`fsl runs` and `fsl run --dry-run`."""

import json
import os

import pytest
from filelock import FileLock

from tests.helpers.cli import MAML, TINY, main, only_run, result_of, sets


def listed(capsys, folder):
    capsys.readouterr()
    assert main("runs", folder, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_runs_by_age_state_and_seeds(tmp_path, capsys):
    main(*MAML, "--log-dir", tmp_path / "a", *sets(*TINY))
    main(*MAML, "--log-dir", tmp_path / "b", "--seeds", 2, "--set", "agent.inner_steps=2", *sets(*TINY))
    one, two = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    os.utime(one / "config.json", (2_000_000_000, 2_000_000_000))
    (tmp_path / "a" / "config.json").write_text("not a run's")
    found = listed(capsys, tmp_path)
    assert [run["folder"] for run in found] == [str(two), str(one)]
    assert [(run["seeds"], run["state"], run["tasks"]) for run in found] == [
        ([0, 1], "finished", 24),
        ([0], "finished", 24),
    ]
    assert [(run["n_way"], run["n_shot"]) for run in found] == [(None, 5)] * 2
    means = [result_of(two / name)["mean"] for name in ("seed0", "seed1")]
    assert found[0]["score"]["mean"] == pytest.approx(sum(means) / 2)
    assert found[0]["score"]["ci95"] == pytest.approx(12.7062047 * abs(means[0] - means[1]) / 2)  # t of 1
    assert found[1]["score"]["mean"] == result_of(one)["mean"]
    assert main("runs", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  sine  5-shot  maml  2 seeds  finished  mse " in lines[0]
    assert "±" in lines[0]
    assert lines[1].endswith(str(one))


def test_unfinished_runs(tmp_path, capsys):
    main(*MAML, "--log-dir", tmp_path, *sets(*TINY))
    run = only_run(tmp_path)
    (run / "result.json").unlink()
    rows = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(row for row in rows if json.loads(row)["tasks"] <= 16))
    (found,) = listed(capsys, tmp_path)
    assert (found["state"], found["tasks"], found["score"]) == ("interrupted", 16, None)
    with FileLock(run / ".lock"):
        (found,) = listed(capsys, tmp_path)
    assert found["state"] == "running"
    main("runs", tmp_path)
    assert "interrupted 16/24" in capsys.readouterr().out


def test_drawn_shapes_are_ranges(tmp_path, capsys):
    words = ["--env", "glyphs", "--agent", "chance", "--n-way", "3-5", "--n-shot", "1-2", "--n-query", 2]
    assert main("run", *words, "--log-dir", tmp_path, *sets("test_tasks=4")) == 0
    assert [(run["n_way"], run["n_shot"]) for run in listed(capsys, tmp_path)] == [("3-5", "1-2")]
    assert main("runs", tmp_path) == 0
    assert "  3-5-way 1-2-shot  " in capsys.readouterr().out


def test_no_runs(tmp_path, capsys):
    assert listed(capsys, tmp_path) == []
    main("runs", tmp_path)
    assert f"no runs in {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("agent", "more"), [("maml", []), ("turtle", ["--seeds", 2]), ("finetuning", []), ("chance", [])]
)
def test_dry_run_writes_nothing_and_counts(agent, more, tmp_path, capsys, monkeypatch):
    import agents
    from fewshot_env.sine import SineSampler
    from runners.training import estimate

    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    words = ["run", "--env", "sine", "--agent", agent, "--dry-run", *more]
    assert main(*words, "--json", *sets("val_tasks=30")) == 0
    found = json.loads(capsys.readouterr().out)
    made = agents.make(agent, SineSampler().spec)
    assert found["parameters"]["all"] == sum(p.numel() for p in made.parameters())
    seconds = found["estimate"]["seconds"]
    assert seconds["all"] == pytest.approx(seconds["training"] + seconds["validation"] + seconds["test"])
    assert (seconds["training"] > 0) == (seconds["validation"] > 0) == (agent != "chance")
    assert 50 < found["estimate"]["own_memory_mb"] < 100_000
    assert found["estimate"]["file_memory_mb"] > 10
    assert found["settings"]["val_tasks"] == 30
    assert found["seeds"] == ([0, 1] if more else [0])
    assert main(*words) == 0
    out = capsys.readouterr().out
    assert "  env.n_shot = 5\n" in out
    assert "time: about " in out
    assert list(tmp_path.iterdir()) == []


def test_estimate_grows_with_the_work(tmp_path, capsys, monkeypatch):
    from runners.training import estimate

    monkeypatch.setattr(estimate, "_time", lambda act, plan: (act(0), (1, 2.0, estimate.Memory(1.0, 2.0)))[1])
    monkeypatch.chdir(tmp_path)
    words = [*MAML, "--dry-run", "--json", "--meta-batch", 4, *sets("val_every=100", "val_tasks=50", "eval_batch=10")]
    assert main(*words, "--tasks", 400, *sets("test_tasks=20")) == 0
    seconds = json.loads(capsys.readouterr().out)["estimate"]["seconds"]
    assert seconds == {"training": 200.0, "validation": 5 * 10.0, "test": 4.0, "all": 254.0}


def test_dry_run_of_what_cannot_be(capsys):
    assert main("run", "--env", "sine", "--agent", "turtle", "--dry-run", "--processes", 3) == 2
    assert "3 processes are too many" in capsys.readouterr().err
