"""The grid on a real Slurm: one array, and a killed job that is queued again and goes on from its checkpoint.

To run them: eval "$(tests/cluster/start_slurm.sh start /tmp/slurm)"; pytest tests/cluster
"""

import subprocess
import threading
import time

import pytest

from runners.reproduce.machinery import executors
from runners.reproduce.machinery.earlier import EarlierReports
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Cell, Scale
from runners.reproduce.machinery.jobs import missing_jobs
from runners.reproduce.machinery.runs import Runs
from runners.storage import checkpoint
from tests.helpers.cli import MAML, main, only_run, result_of, sets
from tests.helpers.reproduce import counts, results

pytestmark = pytest.mark.slurm


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_figure_is_one_array(tiny, tmp_path, capsys):
    assert main("reproduce", "fig4", "--out", tmp_path, "--executor", "slurm") == 0
    assert "3 jobs are Slurm array" in capsys.readouterr().out
    assert len(results(tmp_path)) == 6
    assert counts(tmp_path, "fig4") == [2, 2, 2]
    assert len({file.name.split("_")[0] for file in (tmp_path / "jobs").glob("*_log.out")}) == 1


def test_a_killed_job_is_queued_again_and_resumes(tmp_path):
    settings = {"train_tasks": 3000, "val_every": 100, "val_tasks": 4, "test_tasks": 6, "eval_batch": 2}
    scale = Scale("quick", 1, settings)
    cells = [Cell(name, "sine", {"env": "sine", "agent": name}) for name in ("maml", "fo-maml")]
    experiment = Experiment("fig4", "", cells, "", {"quick": scale})
    runs = Runs(tmp_path, None)
    jobs = missing_jobs([experiment], "quick", runs, EarlierReports([], [experiment], "quick", runs))
    failed = []
    grid = threading.Thread(target=lambda: failed.append(executors.run_jobs(jobs, "slurm", None, {}, tmp_path)))
    grid.start()
    (run,) = jobs[0].folders
    wait_for(lambda: (run / "last.pt").exists() and checkpoint.load(run / "last.pt")["tasks_seen"] >= 100)
    (number,) = {file.name.split("_")[0] for file in (tmp_path / "jobs").glob("*_log.out")}
    subprocess.run(["scontrol", "requeue", f"{number}_0"], check=True)
    wait_for(lambda: "PENDING" in squeue(number))
    at_the_kill = checkpoint.load(run / "last.pt")["tasks_seen"]
    assert 0 < at_the_kill < 3000
    assert not (run / "result.json").exists()
    subprocess.run(["scontrol", "update", f"jobid={number}_0", "starttime=now"], check=True)
    grid.join(180)
    assert failed == [0]
    writers = {file.name.split(".")[-2] for file in run.glob("events*")}
    assert len(writers) == 2  # processes
    main(*MAML, *sets(*(f"{k}={v}" for k, v in settings.items())), "--log-dir", tmp_path / "whole")
    assert result_of(run)["scores"] == result_of(only_run(tmp_path / "whole"))["scores"]


def squeue(number):
    return subprocess.run(["squeue", "-hj", number, "-o", "%T"], capture_output=True, text=True, check=False).stdout
