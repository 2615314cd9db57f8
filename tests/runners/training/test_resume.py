"""An interrupted run, continued, equals the uninterrupted one bit for bit."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners.storage import checkpoint
from runners.training.step import outer_step
from tests.helpers.cli import IMAGES, MAML, ROOT, SMALL_NET, TINY, fsl, main, only_run, sets
from tests.helpers.runs import assert_equal_runs

CASES = {
    "turtle": ["--env", "sine", "--agent", "turtle", *sets(*TINY)],
    "lstm": ["--env", "sine", "--agent", "lstm", *sets(*TINY)],
    "images": ["--env", "mini->cub", "--agent", "maml", *sets(*TINY, *SMALL_NET, *IMAGES)],
    "baseline++": [
        "--env",
        "cub",
        "--agent",
        "baseline++",
        *sets(*TINY, *IMAGES, "agent.filters=4", "agent.adapt_steps=4"),
    ],
}


@pytest.mark.parametrize(
    "case", ["turtle", "images", *(pytest.param(case, marks=pytest.mark.slow) for case in ("lstm", "baseline++"))]
)
@pytest.mark.parametrize(
    "stop_at", [pytest.param(0, marks=pytest.mark.slow), 2, pytest.param(5, marks=pytest.mark.slow)]
)
def test_resumed_equals_uninterrupted(case, stop_at, tmp_path, data_dir, monkeypatch):
    images = [] if "sine" in CASES[case] else ["--data-dir", data_dir]
    main("run", *CASES[case], *images, "--log-dir", tmp_path / "whole")
    stop_in_step(stop_at, monkeypatch)
    assert main("run", *CASES[case], *images, "--log-dir", tmp_path / "cut") == 130
    run = only_run(tmp_path / "cut")
    assert not (run / "result.json").exists()
    monkeypatch.setattr("runners.training.trainer.outer_step", outer_step)
    assert main("run", "--resume", run) == 0
    assert_equal_runs(tmp_path)


@pytest.mark.parametrize(
    ("evaluation", "number"), [(2, signal.SIGTERM), (4, signal.SIGINT)], ids=["validation", "test"]
)
def test_interrupt_during_an_evaluation(evaluation, number, tmp_path, monkeypatch):
    """The run validates three times (at 0, 12 and 24 tasks) and tests once."""
    main("run", *CASES["turtle"], "--log-dir", tmp_path / "whole")
    from runners.training import trainer as train

    real, calls = train.evaluate, [0]

    def evaluate(agent, env, seeds, between, team):
        calls[0] += 1
        if calls[0] == evaluation:
            os.kill(os.getpid(), number)
        return real(agent, env, seeds, between, team)

    monkeypatch.setattr(train, "evaluate", evaluate)
    assert main("run", *CASES["turtle"], "--log-dir", tmp_path / "cut") == 128 + number
    assert main("run", "--resume", only_run(tmp_path / "cut")) == 0
    assert_equal_runs(tmp_path)


@pytest.mark.slow
def test_ctrl_c_of_a_real_process(tmp_path):
    words = [*MAML, "--log-dir", tmp_path, *sets(*TINY, "train_tasks=1000000", "log_every=10")]
    process = subprocess.Popen(
        [sys.executable, "-m", "runners", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("*/last.pt")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    run = only_run(tmp_path)
    assert f"continue with: fsl run --resume {run}" in errors
    assert "Traceback" not in errors
    assert checkpoint.load(run / "last.pt")["tasks_seen"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.3, 1, 2, 3])
def test_ctrl_c_before_a_run_has_begun(seconds, tmp_path):
    """Amid imports, torch's among them: nothing is said and nothing is lost."""
    words = [*MAML, "--log-dir", tmp_path / "runs", *sets("train_tasks=1000000", "val_every=1000000")]
    process = subprocess.Popen(
        [sys.executable, "-m", "runners", *map(str, words)], cwd=ROOT, stdout=-1, stderr=-1, text=True
    )
    while not handles(process, signal.SIGTERM):  # main's first act; before, it may be Python itself that is interrupted
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def handles(process, number):
    """Whether a process has a handler of its own for a signal."""
    mask = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return int(mask[1], 16) >> number - 1 & 1


def stop_in_step(number, monkeypatch):
    """Ctrl-C in the outer step of that number."""
    steps = [0]

    def interrupted_step(*args, **more):
        if steps[0] == number:
            os.kill(os.getpid(), signal.SIGINT)
        steps[0] += 1
        return outer_step(*args, **more)

    monkeypatch.setattr("runners.training.trainer.outer_step", interrupted_step)


def test_what_a_folder_holds_must_be_of_one_run(tmp_path, monkeypatch, capsys):
    """A checkpoint of other settings, and best weights that are lost, are no part of a result."""
    for seed in (0, 1):
        stop_in_step(3, monkeypatch)
        assert main("run", *CASES["turtle"], "--seed", seed, "--log-dir", tmp_path / str(seed)) == 130
    monkeypatch.setattr("runners.training.trainer.outer_step", outer_step)
    one, other = only_run(tmp_path / "0"), only_run(tmp_path / "1")
    config, whole = (one / "config.json").read_text(), checkpoint.load(one / "last.pt")

    def refused(message):
        capsys.readouterr()
        assert main("run", "--resume", one) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not (one / "result.json").exists()

    assert '"seed": 0' in config
    (one / "config.json").write_text(config.replace('"seed": 0', '"seed": 77'))
    refused("was trained with seed=0, but config.json there says 77")
    (one / "config.json").write_text(config)
    shutil.copy(other / "last.pt", one / "last.pt")
    refused("was trained with seed=1, but config.json there says 0")
    checkpoint.save(one / "last.pt", whole | {"best_score": -0.1, "best_tasks": 2})
    (one / "best.pt").unlink(missing_ok=True)
    refused("has lost its best.pt, the weights of its best validation (after 2 tasks)")


@pytest.mark.slow
def test_a_group_that_lost_a_run_does_not_go_on_without_it(tmp_path, capsys):
    main("run", *CASES["turtle"], "--seeds", 3, "--log-dir", tmp_path)
    group = only_run(tmp_path)
    for lose in (lambda: (group / "seed1" / "config.json").unlink(), lambda: shutil.rmtree(group / "seed1")):
        lose()
        for words in (["run", "--resume", group], ["compare", group, group]):
            capsys.readouterr()
            assert main(*words) == 2
            assert "seed1 has lost its config.json" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_between_saves_loses_nothing_that_was_saved(tmp_path):
    main("run", *CASES["turtle"], "--log-dir", tmp_path / "whole")
    killed = (
        "import os, signal, sys\n"
        "from runners.cli import main as cli\nfrom runners.training import trainer as train\n"
        "real, n = train.outer_step, [0]\n"
        "def step(*a, **more):\n"
        "    n[0] += 1\n"
        "    if n[0] == 11: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*a, **more)\n"
        "train.outer_step = step\n"
        f"sys.argv = ['fsl', 'run', '--log-dir', {str(tmp_path / 'cut')!r}, *{CASES['turtle']!r}]\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", killed], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    run = only_run(tmp_path / "cut")
    fsl("run", "--resume", run)
    assert_equal_runs(tmp_path)


def test_resume_takes_no_other_settings_and_no_finished_run(tmp_path, capsys):
    main("run", *CASES["turtle"], "--log-dir", tmp_path)
    run = only_run(tmp_path)
    assert main("run", "--resume", run, "--seed", 2) == 2
    assert main("run", "--resume", run) == 2
    assert "is finished" in capsys.readouterr().err
