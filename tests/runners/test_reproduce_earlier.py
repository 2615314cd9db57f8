"""`fsl reproduce --with`: runs that an earlier report counted are counted again, and not run again."""

import json
import math

import pytest

from runners.reproduce.counted import Run, RunRecord, from_record, to_record
from tests.runners.helpers import main
from tests.runners.test_reproduce import counts, report, results, tiny  # noqa: F401


@pytest.fixture
def earlier(tiny, tmp_path):  # noqa: F811
    """The .json of a report of seed 0 of every cell, whose runs are gone."""
    assert main("reproduce", "fig4", "--seeds", 1, "--out", tmp_path / "there") == 0
    file = tmp_path / "kept.json"
    (tmp_path / "there" / "fig4-quick.json").rename(file)
    return file


def changed(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_an_earlier_reports_runs_are_counted_and_only_the_others_run(earlier, tmp_path):
    out = tmp_path / "here"
    assert main("reproduce", "fig4", "--with", earlier, "--out", out) == 0
    assert {file.parent.name for file in results(out)} == {"seed1"}
    assert counts(out, "fig4") == [2, 2, 2]
    kept = json.loads(earlier.read_text())
    for cell, before in zip(report(out, "fig4")["cells"], kept["cells"], strict=True):
        assert [run["seed"] for run in cell["runs"]] == [0, 1]
        assert cell["runs"][0] == before["runs"][0]
        assert cell["paper_statistic"]["value"] == pytest.approx(sum(run["score"] for run in cell["runs"]) / 2)
    assert "of 6 runs" not in report(out, "fig4")["scale_in_words"]


def test_a_report_can_be_made_of_earlier_ones_alone(earlier, tmp_path):
    out = tmp_path / "here"
    assert main("reproduce", "fig4", "--with", earlier, "--with", earlier, "--report-only", "--out", out) == 0
    assert counts(out, "fig4") == [1, 1, 1]
    assert report(out, "fig4") == json.loads(earlier.read_text())


def test_a_run_whose_folder_is_here_counts_for_what_it_is_now(earlier, tmp_path):
    changed(earlier, lambda content: content["cells"][0]["runs"][0].update(score=9.0))
    assert main("reproduce", "fig4", "--with", earlier, "--report-only", "--out", tmp_path / "there") == 0
    assert report(tmp_path / "there", "fig4")["cells"][0]["runs"][0]["score"] != 9.0


def test_a_run_that_diverged_is_kept_as_such():
    run = Run(3, math.inf, 2.0, 7, None, "", "torch 2.14", "0" * 16, "cells/a/seed3")
    record = json.loads(json.dumps(to_record(run)))
    assert record["score"] is None
    assert from_record(RunRecord.model_validate(record)) == run


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(experiment="fig3"), "is a report of fig3 at quick scale"),
        (lambda content: content.update(scale="full"), "is a report of fig4 at full scale"),
        (lambda content: content["cells"][1].update(identity="0" * 8), "other settings than this version's"),
        (lambda content: content["cells"][1].update(row="MAMBA"), "other settings than this version's"),
        (lambda content: content["cells"][0]["runs"][0].update(score=-1.0), "cells.0.runs.0.score"),
        (lambda content: content["cells"][0]["runs"][0].pop("seed"), "cells.0.runs.0.seed"),
    ],
)
def test_what_is_no_such_report_is_one_line(earlier, tmp_path, capsys, change, words):
    changed(earlier, change)
    capsys.readouterr()
    assert main("reproduce", "fig4", "--with", earlier, "--out", tmp_path / "here") == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert results(tmp_path / "here") == {}


def test_a_file_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main("reproduce", "fig4", "--with", tmp_path / "none.json", "--out", tmp_path / "here") == 2
    assert "none.json can not be read (No such file or directory)" in capsys.readouterr().err


def test_runs_tested_on_other_tasks_are_not_counted_together(earlier, tmp_path, capsys):
    changed(earlier, lambda content: content["cells"][0]["runs"][0].update(episodes="f" * 16))
    assert main("reproduce", "fig4", "--with", earlier, "--out", tmp_path / "here") == 2
    assert "were tested on different tasks" in capsys.readouterr().err
