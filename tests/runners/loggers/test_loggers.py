"""Where numbers go: files always, the loggers that are named, and what is refused before a run begins."""

import csv
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.helpers.cli import IMAGES, MAML, ROOT, SMALL_NET, TINY, main, only_run, sets

RUN = [*MAML, *sets(*TINY)]
SHOWS_ALL = ["run", "--env", "glyphs", "--agent", "turtle", *sets(*TINY, *IMAGES, *SMALL_NET)]

OWN = """
import json
from runners.loggers import Logger

class Lines(Logger):
    def write(self, tasks_seen, row):
        with (self.folder / "own.txt").open("a") as stream:
            print(tasks_seen, *row, self.settings["agent"], file=stream)

class Everything(Lines):
    def note(self, *what):
        with (self.folder / "all.jsonl").open("a") as stream:
            print(json.dumps(what), file=stream)

    def layout(self, spec, distributions):
        self.note("layout", spec.metric, distributions)

    def write(self, tasks_seen, row):
        self.note("write", tasks_seen, list(row))

    def picture(self, tag, picture, tasks_seen):
        self.note("picture", tasks_seen, tag, picture.shape[2])

    def histogram(self, tag, values, tasks_seen):
        self.note("histogram", tasks_seen, tag, values.dim(), len(values) > 0)

    def embedding(self, tag, features, columns, images, tasks_seen):
        self.note("embedding", tasks_seen, tag, len(features), columns, list(images.shape))

    def hparams(self, row, tasks_seen):
        self.note("hparams", tasks_seen, dict(row))

class Fails(Logger):
    def write(self, tasks_seen, row):
        if tasks_seen:
            raise ConnectionError("the service\\nis gone")

class Matters(Fails):
    failure_ends_run = True

class Refuses(Lines):
    def __init__(self, folder, settings, tasks_seen):
        raise ValueError("no\\nkey")

NotALogger = int
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_logger.py").write_text(OWN)
    (tmp_path / "broken_logger.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "odd_logger.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("own_logger", "broken_logger", "odd_logger"):
        sys.modules.pop(name, None)


def separately(tmp_path, *words, run=RUN, **environment):
    """A run as a process of its own, for packages that start threads and processes."""
    command = [sys.executable, "-m", "runners", *run, "--log-dir", tmp_path / "runs", *words]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return only_run(tmp_path / "runs")


def test_json_lines_and_csv_hold_the_same(tmp_path):
    assert main(*RUN, "--log-dir", tmp_path, "--set", "loggers=[]") == 0
    run = only_run(tmp_path)
    assert not list(run.glob("events*"))
    with (run / "metrics.csv").open() as stream:
        table = {int(row.pop("tasks")): row for row in csv.DictReader(stream)}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert list(table) == sorted({row["tasks"] for row in rows}) == [0, 4, 8, 12, 16, 20, 24]
    for row in rows:
        found = table[row.pop("tasks")]
        assert {tag: float(found[tag]) for tag in row} == row
    assert table[4]["val/mse"] == ""


def test_a_custom_logger_beside_tensorboard(tmp_path, own):
    words = ["--logger", "own_logger:Lines", "--logger", "tensorboard"]
    assert main(*RUN, "--log-dir", tmp_path / "runs", *words) == 0
    run = only_run(tmp_path / "runs")
    lines = (run / "own.txt").read_text().splitlines()
    assert lines[0].startswith("0 val/mse")
    assert lines[-1].startswith("24 test/mse")
    assert all(line.endswith(" maml") for line in lines)
    assert list(run.glob("events*"))


def test_a_logger_of_your_own_receives_all_that_is_shown(tmp_path, own):
    assert main(*SHOWS_ALL, "--log-dir", tmp_path / "runs", "--logger", "own_logger:Everything") == 0
    run = only_run(tmp_path / "runs")
    calls = [json.loads(line) for line in (run / "all.jsonl").read_text().splitlines()]
    rates = [f"rates/{layer}" for layer in ("block0", "block1", "block2", "block3", "head")]
    assert calls[0] == ["layout", "accuracy", rates]
    of = {name: [call[1:] for call in calls if call[0] == name] for name in {call[0] for call in calls}}
    assert len(of["layout"]) == 1
    assert of["histogram"] == [[tasks, tag, 1, True] for tasks in (0, 12, 24) for tag in rates]
    assert [24, "test/episode", 3] in of["picture"]
    ((tasks, tag, count, columns, images),) = of["embedding"]
    assert (tasks, tag, count, list(columns), images) == (
        24, "test_episode", 6, ["class", "answer", "right"], [6, 3, 28, 28]
    )  # fmt: skip
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert of["hparams"] == [[last.pop("tasks"), last]]


def test_a_plug_in_that_fails_is_dropped_with_one_warning_unless_it_matters(tmp_path, own, capsys):
    words = ["--log-dir", tmp_path / "runs", "--logger"]
    assert main(*RUN, *words, "own_logger:Fails") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fsl: ")]
    (warning,) = warnings
    assert warning.startswith(
        "fsl: the logger Fails failed and is left out: ConnectionError: the service is gone (own_"
    )
    assert main(*RUN, *words, "own_logger:Matters") == 2
    assert "the service is gone" in capsys.readouterr().err.splitlines()[-1]


def test_an_installed_package_offers_a_logger_by_name(tmp_path, own, monkeypatch):
    from importlib.metadata import EntryPoint

    from fewshot_env import plugins

    point = EntryPoint("lines", "own_logger:Lines", "fsl.loggers")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "fsl.loggers" else [])
    assert main(*RUN, "--log-dir", tmp_path / "runs", "--logger", "lines") == 0
    assert (only_run(tmp_path / "runs") / "own.txt").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "unknown logger 'tensorbord' (did you mean 'tensorboard'?)"),
        ("broken_logger:X", "needs the package 'a_package_that_is_not_there'"),
        ("odd_logger:X", "cannot be imported: ZeroDivisionError: division by zero"),
        ("own_logger:Lacking", "cannot be imported"),
        ("own_logger:NotALogger", "is not a class derived from runners.loggers.Logger"),
    ],
)
def test_a_logger_that_is_missing_or_broken_is_refused_before_the_run(name, message, tmp_path, own, capsys):
    assert main(*RUN, "--log-dir", tmp_path / "runs", "--logger", name) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "runs").exists()


def test_a_missing_optional_package_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "runners.loggers.wandb", raising=False)
    assert main(*RUN, "--log-dir", tmp_path / "runs", "--logger", "wandb") == 2
    assert "pip install 'fewshot[wandb]'" in capsys.readouterr().err


def test_a_service_that_refuses_ends_in_one_line(tmp_path, own, capsys):
    assert main(*RUN, "--log-dir", tmp_path / "runs", "--logger", "own_logger:Refuses") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("fsl: the logger 'own_logger:Refuses' cannot start: ValueError: no key")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb is missing")
def test_weights_and_biases_offline(tmp_path):
    run = separately(tmp_path, "--logger", "wandb", WANDB_MODE="offline", WANDB_SILENT="true")
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert all(tag in content for tag in (b"train/loss", b"val/mse", b"test/mse", b"agent.inner_lr"))
    assert list(run.glob("wandb/offline-run-*/files/media/images/val/episode*.png"))


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow is missing")
def test_mlflow_in_files(tmp_path):
    store = {"MLFLOW_TRACKING_URI": (tmp_path / "store").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    run = separately(tmp_path, "--logger", "mlflow", **store)
    (metrics,) = (tmp_path / "store").glob(f"*/{(run / 'mlflow-run.txt').read_text()}/metrics")
    logged = [line.split()[1:3] for line in (metrics / "val" / "mse").read_text().splitlines()]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(int(s), float(v)) for v, s in logged] == [(r["tasks"], r["val/mse"]) for r in rows if "val/mse" in r]
    assert (metrics.parent / "params" / "agent.inner_lr").read_text() == "0.01"


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb is missing")
@pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow is missing")
def test_services_receive_all_that_is_shown(tmp_path):
    store = {"MLFLOW_TRACKING_URI": (tmp_path / "store").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    words = ["--logger", "wandb", "--logger", "mlflow"]
    run = separately(tmp_path, *words, run=SHOWS_ALL, WANDB_MODE="offline", WANDB_SILENT="true", **store)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    assert b"rates/head" in file.read_bytes()
    assert b'"histogram"' in file.read_bytes()
    (table,) = run.glob("wandb/offline-run-*/files/media/table/test_episode*.table.json")
    table = json.loads(table.read_text())
    assert table["columns"][:5] == ["class", "answer", "right", "image", "feature 0"]
    assert len(table["data"]) == 6
    assert len(list(run.glob("wandb/offline-run-*/files/media/images/*"))) > 0

    (metrics,) = (tmp_path / "store").glob(f"*/{(run / 'mlflow-run.txt').read_text()}/metrics")
    low, middle, high = (
        [line.split()[1:3] for line in (metrics / "rates" / "head" / name).read_text().splitlines()]
        for name in ("low", "median", "high")
    )
    assert [int(step) for _, step in middle] == [0, 12, 24]
    assert all(float(a[0]) < float(b[0]) < float(c[0]) for a, b, c in zip(low, middle, high, strict=True))
    final = float((metrics / "test" / "accuracy").read_text().split()[1])
    assert final == rows[-1]["test/accuracy"]
    pictures = {file.name.partition("+")[0] for file in (metrics.parent / "artifacts" / "images").glob("*.png")}
    assert {"val~episode", "test~episode", "learned~update", "learned~response"} <= pictures
