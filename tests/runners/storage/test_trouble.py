"""What the machine does to a run: full disks, read-only folders, vanished data, two runs in one folder, clocks."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from fewshot_env import durable
from runners.loggers.json_lines import JSONLines
from runners.storage import checkpoint
from runners.storage.lock import locked
from tests.helpers.cli import IMAGES, MAML, ROOT, SMALL_NET, TINY, fsl, main, only_run, result_of, sets
from tests.helpers.runs import assert_equal_runs, everything

SINE = [*MAML, *sets(*TINY)]


def told(err):
    """The one line of an error; what a run says of itself, and its progress, is no error."""
    assert "Traceback" not in err
    (line,) = [x for x in err.splitlines() if x.startswith("fsl: ")]
    return line


def unfinished(folder):
    """A run that was stopped before its test."""
    main(*SINE, "--log-dir", folder)
    (only_run(folder) / "result.json").unlink()
    return only_run(folder)


def refused(capsys, message, *words):
    capsys.readouterr()
    assert main(*words) == 2
    assert message in told(capsys.readouterr().err)


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a"
    durable.write(file, b"old")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space"):
                durable.write(file, b"new")
        assert file.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["a"]


@pytest.mark.slow
def test_a_second_process_is_told_who_holds_a_run(tmp_path, capsys):
    run = unfinished(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from runners.storage.lock import locked\n"
        "with locked([Path(sys.argv[1])]): print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, run], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        refused(capsys, f"the run {run} is in use by process {other.pid} on ", "run", "--resume", run)
        assert not (run / "result.json").exists()
        other.kill()
    assert main("run", "--resume", run) == 0  # a dead process holds nothing


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    run = unfinished(tmp_path)
    (run / ".last.pt.1.partial").write_bytes(b"half")
    (run / ".eval-sine-1.json.1.partial").write_bytes(b"being written by fsl eval")
    with locked([run]):
        assert [f.name for f in run.glob(".*.partial")] == [".eval-sine-1.json.1.partial"]


def test_the_runs_of_a_group_are_locked_together(tmp_path, capsys):
    main(*SINE, "--seeds", 2, "--log-dir", tmp_path)
    group = only_run(tmp_path)
    (group / "seed1" / "result.json").unlink()
    with locked([group / "seed1"]):
        refused(capsys, f"the run {group / 'seed1'} is in use by process {os.getpid()}", "run", "--resume", group)


def full_after(size):
    """No file may grow beyond so many bytes: what a full disk does to a growing file."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [200, 2_000, 20_000])
def test_a_full_disk_stops_the_run_in_one_line_and_it_goes_on_later(size, tmp_path):
    main(*SINE, "--log-dir", tmp_path / "whole")
    words = [sys.executable, "-W", "ignore", "-m", "runners", *map(str, SINE), "--log-dir", tmp_path / "cut"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, preexec_fn=full_after(size), check=False, timeout=300
    )
    assert done.returncode == 2, done.stderr
    line = told(done.stderr)
    assert "cannot be written" in line
    assert "File too large" in line
    if not list((tmp_path / "cut").glob("[!.]*")):
        assert size == 200  # not even the settings had room
        return
    fsl("run", "--resume", only_run(tmp_path / "cut"))
    assert_equal_runs(tmp_path)


def mounted(folder, *options):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB."""
    mounted(tmp_path / "disk", "-o", "size=300k")
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)


@pytest.mark.slow
def test_a_disk_that_really_is_full(small_disk, tmp_path):
    main(*SINE, "--log-dir", tmp_path / "whole")
    (small_disk / "others").write_bytes(bytes(200_000))
    done = fsl(*SINE, "--log-dir", small_disk / "cut", check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    (small_disk / "others").unlink()
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    (run,) = (small_disk / "cut").glob("[!.]*")
    fsl("run", "--resume", run)
    shutil.copytree(small_disk / "cut", tmp_path / "cut")
    assert_equal_runs(tmp_path)


@pytest.mark.slow
def test_a_read_only_folder(small_disk, tmp_path, capsys):
    run = unfinished(tmp_path / "runs")
    shutil.copytree(run, small_disk / "run", ignore=shutil.ignore_patterns("events*", "charts*"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(capsys, "cannot be written (Read-only file system)", "run", "--resume", small_disk / "run")
    refused(capsys, "cannot be written", *SINE, "--log-dir", small_disk / "new")
    refused(capsys, "cannot be written (Read-only file system)", "eval", small_disk / "run")


def test_a_data_store_that_vanished(tmp_path, data_dir, capsys):
    shutil.copytree(data_dir, tmp_path / "data")
    words = ["run", "--env", "mini->cub", "--agent", "maml", *sets(*TINY, *SMALL_NET, *IMAGES)]
    main(*words, "--data-dir", tmp_path / "data", "--log-dir", tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    (run / "result.json").unlink()
    images = tmp_path / "data" / "mini" / "images.npy"
    with images.open("rb+") as stream:
        stream.truncate(1000)
    refused(capsys, "cannot be read", "run", "--resume", run)
    images.unlink()
    refused(capsys, "No such file", "run", "--resume", run)
    shutil.rmtree(tmp_path / "data" / "mini")
    refused(capsys, "miniImageNet is not prepared in", "run", "--resume", run)
    shutil.copytree(data_dir / "mini", tmp_path / "data" / "mini")
    assert main("run", "--resume", run) == 0


@pytest.mark.slow
def test_a_store_that_vanishes_under_a_run_costs_nothing(tmp_path, data_dir, monkeypatch, capsys):
    """What is mapped stays until the run ends; the target, not opened before the test, is asked for in one line."""
    from runners.training import trainer as train

    shutil.copytree(data_dir, tmp_path / "data")
    words = ["run", "--env", "mini->cub", "--agent", "maml", *sets(*TINY, *SMALL_NET, *IMAGES)]
    real, steps = train.outer_step, [0]

    def step(*arguments, **more):
        steps[0] += 1
        if steps[0] == 2:
            shutil.rmtree(tmp_path / "data")
        return real(*arguments, **more)

    monkeypatch.setattr(train, "outer_step", step)
    refused(
        capsys, "CUB-200-2011 is not prepared", *words, "--data-dir", tmp_path / "data", "--log-dir", tmp_path / "r"
    )
    run = only_run(tmp_path / "r")
    assert checkpoint.load(run / "last.pt")["tasks_seen"] == 24
    shutil.copytree(data_dir, tmp_path / "data")
    assert main("run", "--resume", run) == 0


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    main(*SINE, "--log-dir", tmp_path / "whole")
    times = iter([1e9, 2e9, 5e8, 1.5e9] * 100_000)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: next(times))
        main(*SINE, "--log-dir", tmp_path / "cut")
    assert_equal_runs(tmp_path)
    rows = [json.loads(line) for line in (only_run(tmp_path / "cut") / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["time/tasks_per_second"] for row in rows if "time/tasks_per_second" in row]
    assert len(speeds) == 6
    assert all(0.01 < speed < 1e6 for speed in speeds)


def test_rows_written_after_the_checkpoint_are_not_doubled(tmp_path):
    """A kill between a row and its checkpoint: two rows at one number of tasks, of which one belongs to it."""
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        '{"tasks": 4, "train/loss": 1}\n{"tasks": 4, "val/mse": 2}\n{"tasks": 8, "train/loss": 3}\n{"tasks"'
    )
    logger = JSONLines(file, 4, rows=1)
    logger.write(4, {"val/mse": 2.0})
    logger.close()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"tasks": 4, "train/loss": 1},
        {"tasks": 4, "val/mse": 2.0},
    ]
    JSONLines(file, 4).close()  # an older checkpoint that does not count rows
    assert len(file.read_text().splitlines()) == 2


def test_a_group_of_runs_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    from runners.storage import run_folder as run_dir

    real, written = run_dir.write_json, []

    def write_json(file, content):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(file)
        real(file, content)

    monkeypatch.setattr(run_dir, "write_json", write_json)
    refused(capsys, "No space left", *SINE, "--seeds", 4, "--log-dir", tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    from runners.config.plan import make_plan
    from runners.storage import run_folder as run_dir

    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2020, 1, 1)

    monkeypatch.setattr(run_dir, "datetime", Frozen)
    plan = make_plan({"env": "sine", "agent": "maml"})
    made = [run_dir.create(tmp_path, plan).name for _ in range(3)]
    stem = "sine-maml-seed0-20200101-000000"
    assert made == [stem, f"{stem}-2", f"{stem}-3"]


@pytest.mark.slow
def test_sigterm_clears_up_after_a_preparation(tmp_path, data_dir):
    source = data_dir.parent / "mini-source"
    words = [sys.executable, "-m", "runners", "data", "prepare", "mini", "--source", source, "--data-dir", tmp_path]
    for _ in range(40):  # until one falls into the work
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (tmp_path / ".mini.partial").exists():
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
        assert not (tmp_path / ".mini.partial").exists()
        if process.returncode == 128 + signal.SIGTERM:
            return
        shutil.rmtree(tmp_path / "mini", ignore_errors=True)
    pytest.fail("no signal met a preparation at work")


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_checkpoint_of_another_shape_is_reported_in_one_line(name, tmp_path, capsys):
    run = unfinished(tmp_path)
    content = checkpoint.load(run / name)
    for broken in (
        {k: v for k, v in content.items() if k != "agent"},
        {k: v for k, v in content.items() if k not in ("tasks_seen", "agent")},
        content | {"agent": 3},
        content | {"agent": {"weights": [], "optimizer": None}},
        content | {"tasks_seen": "many"},
        content | {"meter": 5},
        content | {"rng": "dice"},
    ):
        checkpoint.save(run / name, broken)
        capsys.readouterr()
        code = main("run", "--resume", run)
        err = capsys.readouterr().err
        if code == 0:  # what best.pt is not asked for
            assert name == "best.pt"
            (run / "result.json").unlink()
            continue
        assert code == 2
        assert "start anew" in told(err)


def test_a_finished_run_keeps_no_litter(tmp_path):
    main(*SINE, "--log-dir", tmp_path)
    run = only_run(tmp_path)
    assert {p.name for p in run.iterdir() if p.name.startswith(".")} == {".lock", ".holder.json"}
    assert result_of(run)["skipped_steps"] == 0
    assert everything(run)[0]["rows"] == len(Path(run / "metrics.jsonl").read_text().splitlines()) - 1
