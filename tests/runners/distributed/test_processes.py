"""Tasks over processes: each run is the run that one process makes, and all processes end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fewshot_env.errors import FewShotError
from runners.distributed.process_group import check_gpus
from tests.helpers.cli import IMAGES, ROOT, SMALL_NET, TINY, fsl, main, only_run, result_of, sets
from tests.helpers.runs import assert_close_runs

SINE = ["--env", "sine", "--agent", "maml", "--meta-batch", "4", *sets(*TINY)]


@pytest.mark.slow
def test_one_two_and_four_processes_give_the_same_run(tmp_path):
    main("run", *SINE, "--log-dir", tmp_path / "1")
    for count in (2, 4):
        done = fsl("run", *SINE, "--processes", count, "--log-dir", tmp_path / str(count))
        assert "test on sine: mse" in done.stdout
        assert_close_runs(only_run(tmp_path / str(count)), only_run(tmp_path / "1"))


@pytest.mark.slow
def test_more_processes_than_tasks_to_evaluate(tmp_path):
    few = sets("val_tasks=1", "test_tasks=2")
    fsl("run", *SINE, *few, "--processes", 4, "--log-dir", tmp_path / "4")
    main("run", *SINE, *few, "--log-dir", tmp_path / "1")
    assert_close_runs(only_run(tmp_path / "4"), only_run(tmp_path / "1"))


def torchrun(hosts):
    """The beginning of what is typed on every host, for two processes in all."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(2 // hosts)]
    if hosts == 1:
        return [*start, "--standalone", "-m", "runners"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", "test", "--local-addr", "127.0.0.1"]
    return [*start, "--nnodes", str(hosts), *meet, "-m", "runners"]


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [1, 2])
def test_torchrun_and_images(hosts, tmp_path, data_dir):
    """Three tasks over two processes, and running statistics of batch normalisation; hosts are agents of torchrun."""
    words = ["--env", "mini", "--agent", "maml", "--data-dir", data_dir, "--meta-batch", 3]
    words += sets(*TINY, *SMALL_NET, *IMAGES, "agent.bn=running")
    typed = [*map(str, [*torchrun(hosts), "run", *words, "--log-dir", tmp_path / "2"])]
    run = [subprocess.Popen(typed, cwd=ROOT, stdout=-1, stderr=-1, text=True) for _ in range(hosts)]
    for host in run:
        _, err = host.communicate(timeout=300)
        assert host.returncode == 0, err
    main("run", *words, "--log-dir", tmp_path / "1")
    assert_close_runs(only_run(tmp_path / "2"), only_run(tmp_path / "1"), rel=1e-3)


def start_long(folder, count):
    words = ["run", *SINE, *sets("train_tasks=1000000", "log_every=400"), "--processes", count, "--log-dir", folder]
    return subprocess.Popen(
        [sys.executable, "-m", "runners", *map(str, words)], cwd=ROOT, stdout=-1, stderr=-1, text=True
    )


def wait_for(found, seconds=120):
    deadline = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dying_process_ends_the_run_with_a_usable_checkpoint(victim, tmp_path):
    process = start_long(tmp_path, 2)
    assert wait_for(lambda: list(tmp_path.glob("*/last.pt")))
    os.kill(children(process.pid)[victim], signal.SIGKILL)
    _, errors = process.communicate(timeout=90)
    run = only_run(tmp_path)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        f"fsl: process {victim} of 2 was killed (SIGKILL); continue with: fsl run --resume {run}"
    )
    assert "Traceback" not in errors
    content = torch.load(run / "last.pt", weights_only=True)
    config = json.loads((run / "config.json").read_text())
    config["settings"]["train_tasks"] = content["tasks_seen"] + 8
    (run / "config.json").write_text(json.dumps(config))
    fsl("run", "--resume", run, "--processes", 2)
    assert result_of(run)["trained_tasks"] == content["tasks_seen"] + 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_at_one_step(number, tmp_path):
    process = start_long(tmp_path, 2)
    assert wait_for(lambda: list(tmp_path.glob("*/last.pt")))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"interrupted; continue with: fsl run --resume {only_run(tmp_path)}" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_signal_while_the_processes_start(tmp_path):
    process = start_long(tmp_path, 2)
    assert wait_for(lambda: children(process.pid))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "killed" not in errors


@pytest.mark.slow
def test_one_error_of_all_processes_is_reported_once(tmp_path):
    main("run", *SINE, "--log-dir", tmp_path)
    run = only_run(tmp_path)
    (run / "result.json").unlink()
    (run / "last.pt").write_bytes(b"damaged")
    done = fsl("run", "--resume", run, "--processes", 2, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is damaged or not one of ours" in done.stderr


@pytest.mark.slow
def test_an_error_of_the_second_process_alone_is_reported(tmp_path):
    (tmp_path / "second.py").write_text(
        "import os\n"
        "from agents.maml import MAML\n"
        "class Second(MAML):\n"
        "    def adapt(self, support):\n"
        "        if os.environ.get('RANK') == '1':\n"
        "            raise ValueError('not with me')\n"
        "        return super().adapt(support)\n"
    )
    words = ["run", "--env", "sine", "--agent", "second:Second", "--meta-batch", "2", *sets(*TINY), "--processes", "2"]
    command = [sys.executable, "-m", "runners", *words, "--log-dir", str(tmp_path / "runs")]
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fsl: second:Second on sine failed: ValueError: not with me")
    assert "continue with: fsl run --resume " in last


def test_a_gpu_for_each_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    check_gpus("cuda", 1)
    check_gpus("cpu", 8)
    with pytest.raises(FewShotError, match="2 processes need a GPU each"):
        check_gpus("cuda", 2)


@pytest.mark.slow
def test_world_size_without_a_process_group(tmp_path):
    words = [sys.executable, "-m", "runners", "run", *SINE, "--log-dir", str(tmp_path / "runs")]
    env = os.environ | {"WORLD_SIZE": "2"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "WORLD_SIZE is set, but" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--agent", "maml", "--meta-batch", "2", "--processes", "3"], "3 processes are too many: a meta-batch has 2"),
        (["--agent", "finetuning", "--processes", "2"], "2 processes are too many: a minibatch cannot be split"),
        (["--agent", "finetuning", "--meta-batch", "2"], "--meta-batch: "),
        (["--agent", "maml", "--set", "env.data_dir=2024"], "env.data_dir is 2024, but must be the name of a folder"),
        (["--agent", "maml", "--precision", "bf16"], "bf16 is for Conv4's convolutions"),
        (["--agent", "maml", "--precision", "fp8"], "setting agent.precision is 'fp8', but"),
    ],
)
def test_bad_input(words, reason, tmp_path, capsys):
    assert main("run", "--env", "sine", *words, "--log-dir", tmp_path / "runs") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
