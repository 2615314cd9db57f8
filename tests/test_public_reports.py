"""Faults that were found by way of public reports about other tools: docs/results/reliability.md lists them."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import unicodedata
import warnings

import gymnasium
import pytest
import torch

import fewshot_env  # noqa: F401  registers the ids
import runners
from fewshot_env import durable
from fewshot_env.data.source import PrepareOptions
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from fewshot_env.registry import ENVS, EnvEntry, register
from fewshot_env.store import data_dir
from tests.helpers.cli import MAML, ROOT, TINY, main, only_run, sets
from tests.helpers.images import write_image

QUICK = {"train_tasks": 24, "val_every": 12, "val_tasks": 4, "test_tasks": 6}


def draw(root, *classes, count=4):
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            write_image(root / name / f"{i}.png", 10 * number + i, number / 9)
    return root


def splits_of(store):
    return {c.name: c.split for c in store.classes}


def test_splits_made_of_links(tmp_path):
    """train/ and test/ that link to classes kept elsewhere in the same folder; and a link in a circle."""
    root = draw(tmp_path / "d", *(f"images/c{i}" for i in range(4)))
    for split, numbers in (("train", (0, 1)), ("test", (2, 3))):
        (root / split).mkdir()
        for i in numbers:
            (root / split / f"c{i}").symlink_to(root / "images" / f"c{i}")
    (root / "train" / "again").symlink_to(root)
    store = prepare("linked", root, tmp_path / "s")
    assert splits_of(store) == {"c0": "train", "c1": "train", "c2": "test", "c3": "test"}
    assert store.index["left_out"] == {"beside test/, train/": 16}


def test_one_class_in_two_unicode_forms(tmp_path):
    names = [f"café{i}" for i in range(9)]
    found = []
    for form in ("NFC", "NFD"):
        root = draw(tmp_path / form, *(unicodedata.normalize(form, name) for name in names))
        found.append(splits_of(prepare("cafes", root, tmp_path / "s")))
        table = tmp_path / "t.csv"
        table.write_text("class,split\ncafé0,train\ncafé1,test\n")
        store = prepare("cafes", root, tmp_path / "s", options=PrepareOptions(str(table)))
        assert splits_of(store) == {"café0": "train", "café1": "test"}
    assert found[0] == found[1]
    both = tmp_path / "both"
    draw(both / "train", unicodedata.normalize("NFC", "café"), "a")
    draw(both / "test", unicodedata.normalize("NFD", "café"), "b")
    with pytest.raises(FewShotError, match="class café is in"):
        prepare("cafes", both, tmp_path / "s")


def test_names_that_differ_in_case_and_images_in_two_splits_are_named(tmp_path, capsys):
    root = draw(tmp_path / "d", "train/Wren", "train/b", "test/wren", "test/c")
    for file in (root / "train/Wren").iterdir():
        (root / "test/wren" / file.name).write_bytes(file.read_bytes())
    assert main("data", "prepare", "birds", "--source", root, "--data-dir", tmp_path / "s") == 0
    out = capsys.readouterr().out
    assert "classes whose names differ only in case or spaces: Wren, wren" in out
    assert "4 groups of identical images in two splits" in out
    assert main("data", "check", "birds", "--data-dir", tmp_path / "s") == 0
    assert "Wren/0.png (train) = wren/0.png (test)" in capsys.readouterr().out


def test_other_data_under_the_same_name_are_noticed(tmp_path, capsys, monkeypatch):
    """A run begun on one split may not go on with another: it would be tested on what it was trained on."""
    monkeypatch.setenv("FSL_HOME", str(tmp_path / "home"))
    root = draw(tmp_path / "d", *"abcdef")
    table = tmp_path / "t.csv"

    def split(order):
        table.write_text(
            "class,split\n" + "".join(f"{c},{'train' if i < 3 else 'test'}\n" for i, c in enumerate(order))
        )
        assert main("data", "prepare", "birds", "--source", root, "--split", table) == 0

    split("abcdef")
    words = ["run", "--env", "birds", "--agent", "maml", "--n-way", 2, "--n-query", 2, "--log-dir", tmp_path / "r"]
    assert main(*words, *sets("train_tasks=24", "test_tasks=8", "agent.filters=4", "agent.inner_steps=1")) == 0
    run = only_run(tmp_path / "r")
    assert main("eval", run) == 0
    assert "prepared anew" not in capsys.readouterr().err
    split("defabc")
    assert main("eval", run) == 0
    assert "classes of this test may be among those that it was trained on" in capsys.readouterr().err
    (run / "result.json").unlink()
    assert main("run", "--resume", run) == 2
    assert "are not those that it was begun with" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_drive_that_cannot_force_a_folder_to_the_disk(number, tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.write(tmp_path / "a", b"x")
    runners.run("sine", "chance", {"test_tasks": 4}, log_dir=tmp_path / "r")


def test_a_disk_that_fails_is_still_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        durable.write(tmp_path / "a", b"x")


def test_a_drive_without_locks(tmp_path, monkeypatch, capsys):
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(*MAML, *sets(*TINY), "--log-dir", tmp_path / "r") == 2
    assert "has no file locks (No locks available)" in capsys.readouterr().err
    assert [*(tmp_path / "r").iterdir()] == []


FORK = """
import sys, torch, multiprocessing, runners

def act(place):
    settings = {"test_tasks": 4, "env.n_query": 16}
    return runners.run("glyphs", "chance", settings, log_dir=place).result["tasks"]

torch.set_num_threads(4)
(torch.zeros(10**6, dtype=torch.uint8).float() / 255).sum()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(act, [sys.argv[1] + "/a", sys.argv[1] + "/b"]).get(90) == [4, 4]
"""


@pytest.mark.slow
def test_a_run_in_a_forked_process(tmp_path):
    assert "fork" in multiprocessing.get_all_start_methods()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path)], cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0


def test_no_seed_does_not_mean_the_same_tasks():
    env = gymnasium.make_vec("FewShot/Sine-v0", num_envs=2)
    first, second = (env.reset(seed=[None, None])[1]["task_seed"].tolist() for _ in range(2))
    other = gymnasium.make_vec("FewShot/Sine-v0", num_envs=2).reset(seed=[None, None])[1]["task_seed"].tolist()
    assert len({*first, *second, *other}) == 6
    env.reset(seed=7)
    mixed = env.reset(seed=[5, None])[1]["task_seed"]
    env.reset(seed=7)
    assert (env.reset(seed=[5, None])[1]["task_seed"] == mixed).all()
    assert mixed[0] == gymnasium.make("FewShot/Sine-v0").reset(seed=5)[1]["task_seed"]


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_run_where_gradients_are_off(off, tmp_path):
    with off():
        done = runners.run("sine", "maml", QUICK, log_dir=tmp_path)
        assert not torch.is_grad_enabled()
    assert done.result["trained_tasks"] == 24


def test_a_users_hook_for_threads_stays(tmp_path, monkeypatch):
    seen = []
    hook = lambda failed: seen.append(failed.exc_type)  # noqa: E731
    monkeypatch.setattr(threading, "excepthook", hook)
    runners.run("sine", "chance", {"test_tasks": 4}, log_dir=tmp_path)
    assert threading.excepthook is hook


def test_without_a_home(monkeypatch, tmp_path):
    monkeypatch.delenv("FSL_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.chdir(tmp_path)
    assert data_dir() == tmp_path / ".fsl" / "data"
    assert main("list") == 0


def test_a_tilde_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main("run", "--env", "sine", "--agent", "chance", "--set", "test_tasks=4", "--log-dir=~/r") == 0
    assert only_run(tmp_path / "r").exists()
    assert not (tmp_path / "~").exists()
    monkeypatch.setenv("FSL_HOME", "~/x")
    assert data_dir() == tmp_path / "x" / "data"


def test_a_data_dir_that_was_given_relatively(monkeypatch, tmp_path, capsys):
    prepare("birds", draw(tmp_path / "d", *"abc"), tmp_path / "s", options=PrepareOptions("1/1/1"))
    prepare("birds", draw(tmp_path / "e", *"abcdef"), tmp_path / "s", options=PrepareOptions("1/1/1"))
    monkeypatch.chdir(tmp_path)
    settings = {"env.data_dir": "s", "env.n_way": 2, "env.n_query": 2, "test_tasks": 4}
    done = runners.run("birds", "chance", settings, log_dir=tmp_path / "r")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    runners.evaluate(done.folder)
    (tmp_path / "s").rename(tmp_path / "moved")
    assert main("eval", done.folder) == 2
    assert str(tmp_path / "s") in capsys.readouterr().err
    assert main("run", "--env", "swallows", "--agent", "chance", "--data-dir", tmp_path / "moved") == 2
    assert f"prepared data sets are looked for in {tmp_path / 'moved'}" in capsys.readouterr().err


def test_one_damaged_data_set_does_not_hide_the_others(tmp_path, capsys):
    for name in ("one", "two"):
        prepare(name, draw(tmp_path / name, *"abc"), tmp_path / "s", options=PrepareOptions("test"))
    (tmp_path / "s/one/index.json").write_text("{")
    assert main("data", "list", "--data-dir", tmp_path / "s") == 0
    out = capsys.readouterr().out
    assert "one      damaged: " in out
    assert "two      train 0 classes" in out


def test_a_cell_that_registers_again_is_the_same():
    entry = EnvEntry("again", "FewShot/Again-v0", "fewshot_env.sine:SineSampler", "a test")
    try:
        for _ in range(2):
            register(EnvEntry(entry.name, entry.id, entry.sampler, entry.summary))
        with pytest.raises(FewShotError, match="already registered"):
            register(EnvEntry("again", "FewShot/Again-v0", "fewshot_env.images:CUB", "another"))
    finally:
        del ENVS["again"]
        del gymnasium.registry["FewShot/Again-v0"]


def test_mlflow_and_wandb_show_how_a_run_ended(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from runners.loggers.mlflow import MLflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name, error, status in (
        ("a", KeyError("x"), "FAILED"),
        ("b", KeyboardInterrupt(), "KILLED"),
        ("c", None, "FINISHED"),
    ):
        (tmp_path / name).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger = MLflow(tmp_path / name, {"seed": 1}, 0)
            client, run = mlflow.MlflowClient(), (tmp_path / name / "mlflow-run.txt").read_text()
            assert client.get_run(run).info.status == "RUNNING"
            if error is not None:
                logger.failed(error)
            logger.close()
        assert client.get_run(run).info.status == status


def test_an_archive_packed_in_another_way(tmp_path, capsys):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("a/1.jpg", b"x" * 100)
    content = (tmp_path / "a.zip").read_bytes()
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # the method: 9 is Deflate64
        place = content.index(mark) + at
        content = content[:place] + b"\x09\x00" + content[place + 2 :]
    (tmp_path / "a.zip").write_bytes(content)
    assert main("data", "prepare", "x", "--source", tmp_path / "a.zip", "--data-dir", tmp_path / "s") == 2
    error = capsys.readouterr().err
    assert "is packed in a way that is not read here" in error
    assert "unpack it yourself and give the folder" in error


def test_results_are_json(tmp_path):
    done = runners.run("sine", "maml", QUICK, log_dir=tmp_path)
    assert json.loads((done.folder / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))
