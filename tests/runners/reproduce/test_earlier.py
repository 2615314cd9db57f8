"""`fsl reproduce --with`: runs that an earlier report counted are counted again, and not run again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_env.errors import FewShotError
from runners.reproduce.machinery.collect import collect
from runners.reproduce.machinery.earlier import EarlierReports
from runners.reproduce.machinery.grid import Cell
from runners.reproduce.machinery.jobs import missing_jobs
from runners.reproduce.machinery.runs import Runs
from runners.reproduce.registry import EXPERIMENTS
from tests.helpers.cli import ROOT, main
from tests.helpers.reproduce import counts, report, results, scores

RUN = {
    "score": 0.5, "median": 0.4, "diverged": 0, "hours": 1.0, "device": "a CPU", "versions": "torch 2.14",
    "episodes": "0" * 16, "folder": "cells/a/seed0",
}  # fmt: skip


@pytest.fixture
def earlier(tiny, tmp_path):
    """The .json of a report of seed 0 of every cell, whose runs lie in another folder."""
    assert main("reproduce", "fig4", "--seeds", 1, "--out", tmp_path / "there") == 0
    file = tmp_path / "kept.json"
    (tmp_path / "there" / "fig4-quick.json").rename(file)
    return file


def changed(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def write_report(file: Path, name: str, runs, seeds, data_dir=None, **run):
    """The .json of a report of an experiment at quick scale with such runs in every cell."""
    experiment = EXPERIMENTS[name]
    found = [
        {
            "settings": cell.settings,
            "target": cell.target,
            "runs": [RUN | run | {"seed": seed} for seed in seeds],
        }
        for cell in experiment.cells
    ]
    scaled = dict(experiment.scales["quick"].settings)
    head = {"experiment": name, "scale": "quick", "scale_settings": scaled, "metric": experiment.metric, "cells": found}
    file.write_text(json.dumps(head | {"statistics": {"score": experiment.scored}}))
    return file


@pytest.mark.slow
def test_an_earlier_reports_runs_are_counted_and_only_the_others_run(earlier, tmp_path, capsys):
    out = tmp_path / "here"
    capsys.readouterr()
    assert main("reproduce", "fig4", "--with", earlier, "--seeds", 1, "--out", out) == 0
    assert "fig4: 3 runs are taken from earlier reports\nevery run of seed 0 is finished" in capsys.readouterr().out
    assert results(out) == {}
    assert main("reproduce", "fig4", "--with", earlier, "--out", out) == 0
    assert {file.parent.name for file in results(out)} == {"seed1"}
    assert counts(out, "fig4") == [2, 2, 2]
    for cell, before in zip(report(out, "fig4")["cells"], json.loads(earlier.read_text())["cells"], strict=True):
        assert [run["seed"] for run in cell["runs"]] == [0, 1]
        assert cell["runs"][0] == before["runs"][0] | {"folder": None}
        assert (out / cell["runs"][1]["folder"] / "result.json").exists()
        assert cell["paper_statistic"]["value"] == pytest.approx(sum(scores(cell)) / 2)
    assert "of 6 runs" not in report(out, "fig4")["scale_in_words"]
    page = (out / "fig4-quick.md").read_text()
    assert "Made with `fsl reproduce fig4 --scale quick --with kept.json`" in page
    assert "; 3 runs from earlier reports" in page


@pytest.mark.slow
def test_several_reports_make_one_and_of_a_run_in_two_the_first_counts(earlier, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(earlier.read_text())

    def two_seeds(content):
        for cell in content["cells"]:
            cell["runs"] = [cell["runs"][0] | {"score": 9.0, "seed": seed} for seed in (1, 0)]

    changed(other, two_seeds)
    out = tmp_path / "here"
    assert main("reproduce", "fig4", "--with", earlier, "--with", other, "--report-only", "--out", out) == 0
    first = json.loads(earlier.read_text())["cells"]
    assert [scores(cell) for cell in report(out, "fig4")["cells"]] == [[*scores(cell), 9.0] for cell in first]
    assert main("reproduce", "fig4", "--with", other, "--with", earlier, "--report-only", "--out", out) == 0
    assert [scores(cell) for cell in report(out, "fig4")["cells"]] == [[9.0, 9.0]] * 3


@pytest.mark.slow
def test_a_run_whose_folder_is_here_counts_for_what_it_is(earlier, tmp_path):
    kept = json.loads(earlier.read_text())
    changed(earlier, lambda content: content["cells"][0]["runs"][0].update(score=9.0))
    assert main("reproduce", "fig4", "--with", earlier, "--report-only", "--out", tmp_path / "there") == 0
    assert scores(report(tmp_path / "there", "fig4")["cells"][0]) == scores(kept["cells"][0])
    assert "from earlier reports" not in (tmp_path / "there" / "fig4-quick.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("fig3", 0), ("fig3", 1), ("fig4", 0), ("fig4", 1)])
def test_what_two_figures_share_is_one_job_whichever_of_them_was_reported(tiny, tmp_path, name, seed):
    both, runs = [EXPERIMENTS[n] for n in ("fig3", "fig4")], Runs(tmp_path, None)
    file = write_report(tmp_path / "kept.json", name, runs, [seed])
    jobs = missing_jobs(both, "quick", runs, EarlierReports([file], both, "quick", runs))
    folders = [folder for job in jobs for folder in job.folders]
    assert len(folders) == len(set(folders))
    shared = runs.cell_identity(both[1].cells[0], both[1].scales["quick"])
    (maml,) = [job for job in jobs if job.folders[0].parent.name.endswith(shared)]
    assert {folder.name for folder in maml.folders} == {"seed0", "seed1"}  # the other figure lacks them


def test_runs_beyond_the_scales_seeds_are_not_counted(tiny, tmp_path):
    fig4, runs = EXPERIMENTS["fig4"], Runs(tmp_path, None)
    known = EarlierReports([write_report(tmp_path / "a.json", "fig4", runs, [1, 2, 7])], [fig4], "quick", runs)
    found = collect(fig4, fig4.scales["quick"], runs, known)
    assert [[run.seed for run in summary.runs] for summary in found.values()] == [[1]] * 3


def test_a_run_whose_tasks_all_diverged_is_the_worst(tiny, tmp_path):
    fig4, runs = EXPERIMENTS["fig4"], Runs(tmp_path, None)
    file = write_report(tmp_path / "a.json", "fig4", runs, [0], score=None, median=None)
    found = collect(fig4, fig4.scales["quick"], runs, EarlierReports([file], [fig4], "quick", runs))
    assert [summary.scores for summary in found.values()] == [[float("inf")]] * 3


def test_a_tables_report_serves_the_figure_about_its_times_but_not_the_other_table(tmp_path, data_dir, monkeypatch):
    small = {"agent.filters": 4, "env.n_way": 3, "env.n_shot": 1, "env.n_query": 2}
    for name in ("table1", "table2", "fig5"):
        whole = EXPERIMENTS[name]
        cells = [c for c in whole.cells if c.row == "MAML" and c.settings["env"] == "mini"][:1]
        cells = [Cell(c.row, c.column, {**c.settings, **small}, c.target) for c in cells]
        monkeypatch.setitem(EXPERIMENTS, name, replace(whole, cells=cells))
    runs = Runs(tmp_path, str(data_dir))
    file = write_report(tmp_path / "a.json", "table1", runs, [0, 1])
    for name, known in (("fig5", [0.5, 0.5]), ("table1", [0.5, 0.5]), ("table2", None)):
        experiment = EXPERIMENTS[name]
        if known is None:
            with pytest.raises(FewShotError, match="has no run that counts for table2"):
                EarlierReports([file], [experiment], "quick", runs)
            continue
        (found,) = collect(
            experiment, experiment.scales["quick"], runs, EarlierReports([file], [experiment], "quick", runs)
        ).values()
        assert (found.scores, found.hours) == (known, [1.0, 1.0])
    none = write_report(tmp_path / "b.json", "table1", runs, [0], score=None)
    table1 = EXPERIMENTS["table1"]
    (found,) = collect(table1, table1.scales["quick"], runs, EarlierReports([none], [table1], "quick", runs)).values()
    assert found.scores == [0.0]
    above = write_report(tmp_path / "c.json", "table1", runs, [0], score=1.5)
    with pytest.raises(FewShotError, match="accuracy above 1"):
        EarlierReports([above], [table1], "quick", runs)


def test_what_docs_results_publishes_can_be_gone_on_from(tmp_path):
    fig3, runs, file = EXPERIMENTS["fig3"], Runs(tmp_path, None), ROOT / "docs/results/fig3.json"
    found = collect(fig3, fig3.scales["full"], runs, EarlierReports([file], [fig3], "full", runs))
    published = json.loads(file.read_text())["cells"]
    assert [summary.earlier for summary in found.values()] == [len(cell["runs"]) for cell in published]
    assert any(cell["runs"] for cell in published)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda content: content["statistics"].update(score="validation"),
            "the validations of fig4 at quick scale, has no run that counts for fig4 at quick",
        ),
        (
            lambda content: [cell["resolved"].update(train_tasks=13) for cell in content["cells"]],
            "has no run that counts",
        ),
        (
            lambda content: [cell["resolved"].update({"agent.x": 1}) for cell in content["cells"]],
            "has no run that counts",
        ),
        (lambda content: [cell["resolved"].update(agent="os:system") for cell in content["cells"]], "has no run that"),
        (lambda content: [cell.update(runs=[]) for cell in content["cells"]], "has no run that counts"),
        (lambda content: content.update(scale="a\nb"), "scale: it is not printable"),
        (lambda content: content["cells"].append(content["cells"][0]), "it has a cell twice"),
        (lambda content: content["cells"][0]["runs"].append(content["cells"][0]["runs"][0]), "cells.0: it has a seed"),
        (lambda content: content["cells"][0]["runs"][0].update(score=-1.0), "cells.0.runs.0.score"),
        (lambda content: content["cells"][0]["runs"][0].update(device="# A\n"), "cells.0.runs.0.device"),
        (lambda content: content["cells"][0]["runs"][0].pop("seed"), "cells.0.runs.0.seed"),
        (lambda content: content["cells"][0]["runs"][0].update(episodes="f" * 16), None),
    ],
)
def test_what_cannot_be_counted_is_one_line_before_anything_runs(earlier, tmp_path, capsys, change, words):
    changed(earlier, change)
    out = tmp_path / ("here" if words else "there")
    before = results(out)
    capsys.readouterr()
    if words is None:  # seed 1 is here, tested on other tasks than the seed 0 that was reported
        words = "MAML, sine: its runs with seeds 0 and 1 were tested on different tasks"
        (seed0,) = out.glob("cells/sine-maml-*/seed0")
        changed(seed0 / "config.json", lambda content: content["settings"].update(seed=1))
        seed0.rename(seed0.with_name("seed1"))
        before = results(out)
    assert main("reproduce", "fig4", "--with", earlier, "--out", out) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert results(out) == before
    assert words.startswith("MAML") or not out.exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main("reproduce", "fig4", "--with", tmp_path / "none.json", "--out", tmp_path / "here") == 2
    assert "none.json cannot be read (No such file or directory)" in capsys.readouterr().err
    assert not (tmp_path / "here").exists()
