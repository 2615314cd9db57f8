"""Files of a run's folder that are not what fsl wrote: every command that reads them says so in one line."""

import json
import shutil

import pytest

from runners.loggers.json_lines import JSONLines, read_rows
from runners.reproduce.machinery.runs import best_validation
from runners.storage import schemas
from tests.helpers.cli import MAML, TINY, main, only_run, sets

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of TURTLE (which has charts), and its group of two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    words = ["run", "--env", "sine", "--agent", "turtle", *sets(*TINY, "loggers=[]", "agent.inner_steps=2")]
    assert main(*words, "--seeds", 2, "--log-dir", folder) == 0
    return only_run(folder)


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "runs" / "group")
    return tmp_path / "runs" / "group" / "seed0"


def edited(file, **changes):
    """A JSON file with other values, or without those that are None here; "null" stands for null."""
    content = json.loads(file.read_text())
    inner = content["settings"] if file.name == "config.json" else content
    for key, value in changes.items():
        inner[key] = None if value == "null" else value
        if value is None:
            del inner[key]
    file.write_text(json.dumps(content))


def told(capsys, message, *words):
    """A refusal in one line."""
    capsys.readouterr()
    code = main(*words)
    out, err = capsys.readouterr()
    assert (code, err.count("\n"), out) == (2, 1, ""), err
    assert message in err
    assert "unexpected" not in err


ROWS = ['{"tasks": [1]}', "[1]", "5", DEEP, '{"tasks": 1e400}', '{"tasks": -1}', '{"tasks": 4, "a": "x"}', '{"a": 1}',
        '{"tasks": 4, "a": null}', "9" * 5000, "\ufffd"]  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_is_none(row, run, capsys):
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(rows + row + "\n")
    line = rows.count("\n") + 1
    told(capsys, f"metrics.jsonl cannot be read: line {line} is not one that fsl wrote", "report", run)
    (run / "result.json").unlink()
    assert main("runs", run.parent.parent) == 0
    assert "2 seeds  interrupted 0/24" in capsys.readouterr().out
    assert main("run", "--resume", run) == 0
    assert "unexpected" not in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_text().startswith(rows[:100])


def test_rows_that_a_figure_cannot_show_are_left_out(run):
    more = [{"val/low": 1}, {"val/low": 1e308, "val/high": -1e308}, {"train/loss": float("inf")}]
    more += [{"inner/loss_x": 1}, {"inner/loss_": 1}, {"inner/loss_0": 10**300}]
    with (run / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps({"tasks": 100 + i, **row}) + "\n" for i, row in enumerate(more))
    assert main("report", run) == 0
    assert 'aria-label="learning"' in (run / "report.html").read_text()


@pytest.mark.parametrize(
    "row",
    [
        DEEP,
        "[[[",
        "{}",
        "5",
        '{"tasks": 1, "name": "a", "x_label": "", "y_label": "", "x": [1], "lines": {"a": [1, 2]}}',
    ],
)
def test_a_chart_that_is_none(row, run, capsys):
    (run / "charts.jsonl").write_text(row + "\n")
    told(capsys, "charts.jsonl cannot be read: line 1 is not one that fsl wrote", "report", run)


def test_the_charts_text_is_text(run):
    row = {
        "name": '<b "$x^{',
        "x_label": "$x^{",
        "y_label": "$",
        "x": [1, 1e308],
        "lines": {"$^": [1, -1e308]},
        "bands": {},
    }
    other = row | {"lines": {"b": [1, 2]}}
    rows = [{"tasks": i, **chart} for i, chart in enumerate((other, row, row))]
    (run / "charts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main("report", run) == 0
    assert "<b " not in (run / "report.html").read_text()


RESULTS = [
    {"mean": "x"}, {"mean": float("inf")}, {"mean": None}, {"mean": "null"}, {"median": None}, {"median": []},
    {"metric": "null"}, {"metric": None}, {"ci95": None}, {"ci95": "null"}, {"tasks": 5}, {"tasks": None},
    {"diverged": None}, {"diverged": "0"}, {"scores": "abc"}, {"scores": [1, [2]]}, {"scores": None},
    {"versions": None}, {"versions": {"torch": 2}}, {"settings": None}, {"settings": []}, {"episode_hash": 5},
    {"env": "null"}, {"metric": "\ud800"},
    {"agent": None}, {"best_at_tasks": None}, {"best_at_tasks": 10**400}, {"trained_tasks": "x"}, {"seconds": "x"},
    {"seconds": {"train": "x"}}, {"side_by_side": 0}, {"device": 5},
]  # fmt: skip


@pytest.mark.parametrize("changes", RESULTS, ids=str)
def test_a_result_that_is_none(changes, run, capsys):
    edited(run / "result.json", **changes)
    told(capsys, "result.json is not a result that fsl wrote (", "report", run)
    told(capsys, "; remove it, then: fsl run --resume ", "compare", run, run.parent / "seed1")
    assert main("runs", run.parent.parent) == 0
    assert "interrupted" in capsys.readouterr().out


@pytest.mark.parametrize("text", [DEEP, "", "5", "[]", '{"a": ' * 50_000, "\0", "9" * 5000])
def test_files_that_are_no_json(text, run, capsys):
    (run / "result.json").write_text(text)
    told(capsys, "result.json is not a result that fsl wrote (", "report", run)
    (run / "result.json").unlink()
    (run / "config.json").write_text(text)
    for words in (["eval", run], ["run", "--resume", run]):
        told(capsys, "config.json", *words)
    assert main("runs", run.parent.parent) == 0
    assert "seed 1" in capsys.readouterr().out  # the other one is there


def test_results_without_what_older_ones_lack(run, capsys):
    edited(run / "result.json", skipped_steps=None, seconds=None, side_by_side=None, device=None, median="null")
    assert main("report", run) == 0
    assert main("runs", run.parent) == 0


@pytest.mark.parametrize(
    "changes",
    [{"env": 5}, {"agent": "null"}, {"seed": "x"}, {"seed": []}, {"seed": {}}, {"seed": -1}, {"train_tasks": None}],
)
def test_settings_that_are_none(changes, run, capsys):
    edited(run / "config.json", **changes)
    assert main("runs", run.parent.parent, "--json") == 0
    assert [past["seeds"] for past in json.loads(capsys.readouterr().out)] == [[1]]
    for words in (["eval", run], ["run", "--resume", run.parent]):
        (run / "result.json").unlink(missing_ok=True)
        told(capsys, f"config.json is not what fsl wrote (settings.{next(iter(changes))}: ", *words)


@pytest.mark.slow
def test_a_grid_meets_damaged_runs(run, tmp_path, capsys, monkeypatch):
    from runners.reproduce.machinery.grid import Scale
    from runners.reproduce.shared import SINE_SCALES

    tiny = {"train_tasks": 12, "val_every": 6, "val_tasks": 4, "test_tasks": 6, "eval_batch": 2}
    monkeypatch.setitem(SINE_SCALES, "quick", Scale("quick", 1, tiny))
    words = ["reproduce", "fig4", "--out", tmp_path / "grid"]
    assert main(*words) == 0
    (maml,) = (tmp_path / "grid").glob("cells/*maml*/seed0")
    whole = (maml / "result.json").read_text()
    for key in ("mean", "median", "diverged", "versions"):
        edited(maml / "result.json", **{key: None})
        told(capsys, "result.json is not a result that fsl wrote (", *words, "--report-only")
        (maml / "result.json").write_text(whole)
    for key in ("device", "side_by_side"):
        edited(maml / "result.json", **{key: None})
        assert main(*words, "--report-only") == 0
    for seed in ("x", []):
        edited(maml / "config.json", seed=seed)
        assert main(*words, "--report-only") == 0  # no run of the grid


def test_a_validation_that_is_lost_is_not_the_worst(run):
    result = schemas.read_result(run)
    best = best_validation(run, result)
    assert best["mean"] == read_rows(run)[result["best_at_tasks"]]["val/mse"]
    (run / "metrics.jsonl").write_text('{"tasks": 0, "train/loss": 1}\n')
    with pytest.raises(schemas.FewShotError, match="has lost the validation after"):
        best_validation(run, result)


def test_rows_that_are_lost_are_reported_when_a_run_goes_on(run, capsys):
    (run / "result.json").unlink()
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:3]))
    assert main("run", "--resume", run) == 0
    lost = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fsl: ")]
    assert lost == [
        f"fsl: {run / 'metrics.jsonl'} holds 3 of the {len(rows) - 1} rows that the checkpoint counts; the rest is lost"
    ]
    JSONLines(run / "none.jsonl", 0, 0).close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", ["nowhere/x", "file/x"])
def test_files_that_cannot_be_written_have_the_name_that_was_given(where, run, tmp_path, capsys):
    (tmp_path / "file").touch()
    picture, page = tmp_path / f"{where}.png", tmp_path / f"{where}.html"
    told(capsys, f"--plot {picture} cannot be written (No", "compare", run, run.parent / "seed1", "--plot", picture)
    told(capsys, f"{page} cannot be written (No", "report", run, "--out", page)
    assert ".partial" not in capsys.readouterr().err


def test_a_folder_that_vanishes_under_a_run_is_the_error_that_is_reported(tmp_path, monkeypatch, capsys):
    from runners.training import trainer as train

    real = train.outer_step

    def step(*arguments, **more):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        return real(*arguments, **more)

    monkeypatch.setattr(train, "outer_step", step)
    assert main(*MAML, *sets(*TINY, "loggers=[]"), "--log-dir", tmp_path / "runs") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fsl: the run ")
    assert "cannot be written (No such file or directory)" in line


def test_a_folders_name_that_counts_beyond_any_machine(run, tmp_path, capsys):
    group = tmp_path / f"sine-maml-seeds0-{'9' * 30}-now"
    shutil.copytree(run, group / "seed0")
    told(capsys, "seed1 has lost its config.json", "report", group)
