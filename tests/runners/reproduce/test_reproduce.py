"""`fsl reproduce`: the declared grids, what is missing, resuming, adoption, the reports."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from runners.config.plan import make_plan
from runners.distributed.stop import Interrupted
from runners.reproduce.machinery import executors
from runners.reproduce.machinery.grid import Cell
from runners.reproduce.machinery.runs import Runs
from runners.reproduce.registry import EXPERIMENTS
from runners.reproduce.shared import SINE_SCALES
from runners.training import trainer
from tests.helpers.cli import ROOT, main, sets
from tests.helpers.reproduce import TINY, counts, report, results, scores


def test_a_figure_is_run_reported_and_then_found_finished(tiny, tmp_path, capsys):
    assert main("reproduce", "fig4", "--out", tmp_path) == 0
    first = results(tmp_path)
    assert len(first) == 3 * 2
    found = report(tmp_path, "fig4")
    cell = {c["row"]: c for c in found["cells"]}["MAML"]
    runs = [json.loads(f.read_text()) for f in first if "maml" in str(f)]
    assert {run["seed"]: run["score"] for run in cell["runs"]} == {r["settings"]["seed"]: r["mean"] for r in runs}
    assert all((tmp_path / run["folder"] / "result.json").exists() for run in cell["runs"])
    a, b = scores(cell)
    half = 1.96 * abs(a - b) / math.sqrt(2) / math.sqrt(2)
    assert cell["paper_statistic"] == {"value": pytest.approx((a + b) / 2), "half": pytest.approx(half), "runs": 2}
    assert cell["mean_hours"] == pytest.approx(sum(run["hours"] for run in cell["runs"]) / 2)
    assert "QUICK SCALE" in found["scale_in_words"]
    for suffix in ("md", "tex", "svg"):
        assert "QUICK SCALE" in (tmp_path / f"fig4-quick.{suffix}").read_text() or suffix == "svg"
    assert (tmp_path / "fig4-quick.png").read_bytes().startswith(b"\x89PNG")
    assert {c["claim"]: c["holds"] for c in found["claims"]}.keys() == {
        "TURTLE beats MAML",
        "TURTLE beats the meta-learner LSTM",
    }
    capsys.readouterr()
    assert main("reproduce", "fig4", "--out", tmp_path) == 0
    assert "every run is finished" in capsys.readouterr().out
    assert results(tmp_path) == first


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch, capsys):
    steps, real = [0], trainer._take_step

    def stop_in_the_second_cell(training, batch):
        steps[0] += 1
        if steps[0] == 12 + 3:  # MAML takes 12 steps, the LSTM is in its third
            raise Interrupted(130)
        real(training, batch)

    monkeypatch.setattr(trainer, "_take_step", stop_in_the_second_cell)
    assert main("reproduce", "fig4", "--out", tmp_path) == 130
    assert "run the same command again to continue" in capsys.readouterr().err
    first = results(tmp_path)
    assert {f.parent.parent.name.split("-")[1] for f in first} == {"maml"}
    assert main("reproduce", "fig4", "--out", tmp_path, "--report-only") == 0
    assert counts(tmp_path, "fig4") == [2, 0, 0]
    assert main("reproduce", "fig4", "--out", tmp_path) == 0
    assert first.items() <= results(tmp_path).items()
    assert counts(tmp_path, "fig4") == [2, 2, 2]


@pytest.mark.slow
def test_a_few_seeds_first_and_the_others_later(tiny, tmp_path, capsys):
    assert main("reproduce", "fig4", "--seeds", 1, "--out", tmp_path) == 0
    first = results(tmp_path)
    assert {file.parent.name for file in first} == {"seed0"}
    found = report(tmp_path, "fig4")
    assert [(len(c["runs"]), c["runs_wanted"]) for c in found["cells"]] == [(1, 2)] * 3
    assert "INCOMPLETE: 3 of 6 runs are finished" in found["scale_in_words"]
    capsys.readouterr()
    assert main("reproduce", "fig4", "--seeds", 1, "--out", tmp_path) == 0
    assert "every run of seed 0 is finished" in capsys.readouterr().out
    assert main("reproduce", "fig4", "--seeds", 9, "--out", tmp_path) == 0
    assert first.items() < results(tmp_path).items()
    assert counts(tmp_path, "fig4") == [2] * 3


@pytest.mark.slow
def test_runs_made_by_hand_are_adopted_whatever_their_folder_is_called(tiny, tmp_path):
    run = ["run", "--env", "sine", "--agent", "turtle", *sets(*(f"{k}={v}" for k, v in TINY.items()))]
    assert main(*run, "--seeds", 2, "--log-dir", tmp_path / "elsewhere") == 0
    (group,) = (tmp_path / "elsewhere").iterdir()
    shutil.copytree(group, tmp_path / "out" / "my turtles")
    assert main("reproduce", "fig4", "--out", tmp_path / "out", "--report-only") == 0
    assert counts(tmp_path / "out", "fig4") == [0, 0, 2]
    settings = {**EXPERIMENTS["fig4"].cells[2].settings, "agent.beta": 0.5}
    other = Cell("TURTLE", "sine", settings)
    assert Runs(tmp_path / "out", None).of(other, SINE_SCALES["quick"]) == {}  # other settings: another cell


@pytest.mark.slow
def test_the_grid_runs_as_processes_of_this_machine(tiny, tmp_path, capsys):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fewshot[cluster]'")
    out, broken = tmp_path / "out", "cells/sine-maml-*/seed0/last.pt"
    assert main("reproduce", "fig4", "--out", out, "--executor", "local", "--at-once", 2) == 0
    assert len(results(out)) == 6
    (last,) = out.glob(broken)
    last.write_bytes(b"not a checkpoint")
    (last.parent / "result.json").unlink()
    capsys.readouterr()
    assert main("reproduce", "fig4", "--out", out, "--executor", "local") == 1
    told = capsys.readouterr()
    assert "MAML, sine failed" in told.err
    assert "is damaged" in told.err
    assert counts(out, "fig4") == [1, 2, 2]


@pytest.mark.slow
def test_processes_of_this_machine_are_asked_to_save_when_the_grid_is_interrupted(tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fewshot[cluster]'")
    words = ["reproduce", "fig4", "--executor", "local", "--at-once", "2", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "runners", *words]
    grid = subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("cells/*/seed*/metrics.jsonl"))) < 2 * 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(grid.pid, signal.SIGINT)  # Ctrl-C reaches every process of the terminal
    _, err = grid.communicate(timeout=120)
    assert grid.returncode == 130
    assert err.splitlines() == [
        "interrupted; waiting for 2 jobs to save",
        "run the same command again to continue",
    ]
    assert len(list(tmp_path.glob("cells/*/seed*/last.pt"))) == 2 * 3
    with pytest.raises(ProcessLookupError):
        os.killpg(grid.pid, 0)  # nobody is left


def test_a_slurm_that_does_not_answer_says_nothing_of_the_jobs(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for answer, known in (
        ("echo 'Unable to contact slurm controller' >&2; exit 1", None),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", set()),
        ("printf '7_0\n7_1\n'", {"7_0", "7_1"}),
    ):
        squeue.write_text(f"#!/bin/sh\n{answer}\n")
        squeue.chmod(0o755)
        assert executors._queued("7") == known


@pytest.mark.slow
def test_the_validation_scored_is_the_best(tiny, tmp_path, monkeypatch, capsys):
    fig3 = EXPERIMENTS["fig3"]
    monkeypatch.setitem(EXPERIMENTS, "fig3", replace(fig3, cells=fig3.cells[:2], claims=(), draw=None))
    assert main("reproduce", "fig3", "--out", tmp_path) == 0
    cell = report(tmp_path, "fig3")["cells"][0]
    for seed, score in enumerate(scores(cell)):
        (log,) = tmp_path.glob(f"cells/sine-fo-maml-*/seed{seed}/metrics.jsonl")
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        assert score == min(row["val/mse"] for row in rows if "val/mse" in row)
    log.write_text("".join(json.dumps(row | {"val/mse": -1.0}) + "\n" for row in rows))
    capsys.readouterr()
    assert main("reproduce", "fig3", "--out", tmp_path, "--report-only") == 2
    err = capsys.readouterr().err
    assert "seed1 is not what fsl wrote (score: " in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_pair_is_trained_once_and_tested_on_its_target(tiny, tmp_path, data_dir, monkeypatch):
    small = {"agent.filters": 4, "agent.inner_steps": 1, "env.n_way": 3, "env.n_shot": 1, "env.n_query": 2}
    for name in ("table1", "table2"):
        whole = EXPERIMENTS[name]
        cells = [c for c in whole.cells if c.row == "MAML" and c.settings["env"] == "mini"][:1]
        cells = [Cell(c.row, c.column, {**c.settings, **small}, c.target) for c in cells]
        monkeypatch.setitem(EXPERIMENTS, name, replace(whole, cells=cells, claims=()))
    assert main("reproduce", "table2", "--out", tmp_path, "--data-dir", data_dir) == 0
    assert main("reproduce", "table1", "--out", tmp_path, "--data-dir", data_dir) == 0
    own, across = report(tmp_path, "table1")["cells"][0], report(tmp_path, "table2")["cells"][0]
    assert (len(own["runs"]), len(across["runs"])) == (2, 2)
    assert len(list(tmp_path.glob("cells/*"))) == 1
    assert {run["episodes"] for run in own["runs"]}.isdisjoint({run["episodes"] for run in across["runs"]})
    assert "Data: mini: train 8 classes" in (tmp_path / "table1-quick.md").read_text()
    assert report(tmp_path, "table1")["metric"] == "accuracy"
    assert not (tmp_path / "table1-quick.png").exists()
    assert r"\begin{longtable}" in (tmp_path / "table2-quick.tex").read_text()
    tested, ended = (next(tmp_path.glob(f"cells/*/seed0/{name}")) for name in ("eval-cub-*.json", "result.json"))
    content, result = json.loads(tested.read_text()), ended.read_text()
    assert content["best_at_tasks"] == json.loads(result)["best_at_tasks"]
    tested.write_text(json.dumps(content | {"best_at_tasks": 10**6}))  # of weights that are not the run's last word
    assert main("reproduce", "table2", "--out", tmp_path, "--data-dir", data_dir, "--report-only") == 0
    assert counts(tmp_path, "table2") == [1]
    tested.write_text(json.dumps(content))
    ended.unlink()  # of a run that is not finished
    assert main("reproduce", "table2", "--out", tmp_path, "--data-dir", data_dir, "--report-only") == 0
    assert counts(tmp_path, "table2") == [1]
    ended.write_text(result)
    assert main("reproduce", "table2", "--out", tmp_path, "--data-dir", data_dir, "--report-only") == 0
    assert counts(tmp_path, "table2") == [2]


@pytest.mark.parametrize("executor", ["here", "local", "slurm"])
def test_nothing_left_to_do_is_nothing_done(executor, tmp_path):
    assert executors.run_jobs([], executor, None, {}, tmp_path) == 0
    assert not list(tmp_path.iterdir())


def test_local_jobs_see_the_gpus_and_have_no_limit_of_time(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fewshot[cluster]'")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    parameters = executors._executor("local", tmp_path, {})._executor.parameters
    assert parameters["gpus_per_node"] == 3
    assert parameters["timeout_min"] > 60 * 24 * 100
    own = executors._executor("local", tmp_path, {"gpus_per_node": 1, "timeout_min": 5})._executor.parameters
    assert (own["gpus_per_node"], own["timeout_min"]) == (1, 5)


# what the paper and its code say of the settings of images, by row and number of shots
TRANSFER = {"adapt_steps": 100, "adapt_batch": 4, "adapt_lr": 0.001, "check_every": 25, "pretrain_batch": 16}
MAML = {"inner_lr": 0.01, "inner_steps": 5, "eval_steps": 10, "inner_clip": 10.0, "task_clip": 10.0}
LSTM = {"meta_batch": 1, "hidden_units": 20, "outer_clip_norm": 0.25}
ENHANCED = LSTM | {"inner_steps": 8, "first_order": False, "raw_gradients": True}
TURTLE = {
    "inner_steps": 5, "meta_batch": 2, "hidden_layers": 5, "hidden_units": 20, "history": "gradients", "beta": 0.9,
    "learned_rates": True, "inner_clip": 10.0, "task_clip": 10.0,
}  # fmt: skip
PAPER = {
    "TrainFromScratch": {shots: TRANSFER for shots in (1, 5)},
    "Finetuning": {shots: TRANSFER for shots in (1, 5)},
    "Baseline++": {shots: TRANSFER | {"scale": 2.0} for shots in (1, 5)},
    "Meta-learner LSTM": {
        shots: LSTM | {"inner_steps": steps, "first_order": True, "raw_gradients": False}
        for shots, steps in ((1, 12), (5, 5))
    },
    "Meta-learner LSTM (enhanced)": {shots: ENHANCED for shots in (1, 5)},
    "FO-MAML": {1: MAML | {"meta_batch": 4, "first_order": True}, 5: MAML | {"meta_batch": 2, "first_order": True}},
    "MAML": {1: MAML | {"meta_batch": 4, "first_order": False}, 5: MAML | {"meta_batch": 2, "first_order": False}},
    "First-order TURTLE": {shots: TURTLE | {"first_order": True} for shots in (1, 5)},
    "TURTLE": {shots: TURTLE | {"first_order": False} for shots in (1, 5)},
}


@pytest.mark.parametrize("table", ["table1", "table2"])
@pytest.mark.parametrize("row", PAPER)
def test_the_full_scale_is_the_papers(table, row, data_dir):
    small = {"env.n_way": 2, "env.n_query": 2}  # the small data of the tests hold no more
    experiment = EXPERIMENTS[table]
    full = experiment.scales["full"]
    cells = [cell for cell in experiment.cells if cell.row == row]
    pairs = {"table1": (("mini", None), ("cub", None)), "table2": (("mini", "cub"), ("cub", "mini"))}[table]
    titles = {"mini": "miniImageNet", "cub": "CUB"}
    assert [(cell.settings["env"], cell.target, cell.settings["env.n_shot"]) for cell in cells] == [
        (*pair, shots) for pair in pairs for shots in (1, 5)
    ]
    for cell in cells:
        env, shots = cell.settings["env"], cell.settings["env.n_shot"]
        where = titles[env] + (f" → {titles[cell.target]}" if cell.target else "")
        assert cell.column == f"{where} {shots}-shot"
        assert (cell.settings["env.n_way"], cell.settings["env.n_query"]) == (5, 16)
        plan = make_plan(cell.run_settings(full, 0, str(data_dir)) | small)
        config = plan.agent_config.model_dump()
        common = {"outer_lr": 0.001, "filters": 64, "padding": 0}
        assert (PAPER[row][shots] | common).items() <= config.items()
        tasks = 0 if row == "TrainFromScratch" else {1: 60_000, 5: 40_000}[shots]
        assert (full.seeds, plan.run.train_tasks, plan.run.val_every, plan.run.test_tasks) == (5, tasks, 2500, 600)


def test_fig3_is_gradient_only_with_rates_of_one():
    fig3 = EXPERIMENTS["fig3"]
    plans = [make_plan(cell.run_settings(fig3.scales["full"], 0, None)) for cell in fig3.cells]
    turtles = [p.agent_config for p in plans if "turtle" in p.run.agent]
    assert len(plans) == 3 * (2 + 2 * 6)
    assert len(turtles) == 36
    assert {(c.history, c.time_input, c.loss_input, c.learned_rates) for c in turtles} == {
        ("none", False, False, False)
    }
    assert {(c.inner_steps, c.hidden_layers, c.first_order) for c in turtles} == {
        (t, n, order) for t in (1, 5, 10) for n in range(1, 7) for order in (True, False)
    }
    assert {p.run.train_tasks for p in plans} == {70_000}
    assert fig3.scales["full"].seeds == 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fig6"], "did you mean"),
        (["fig4", "--scale", "big"], "must be quick or full"),
        (["fig4", "--seeds", "0"], "--seeds"),
        (["fig4", "--executor", "cloud"], "must be here, local or slurm"),
        (["fig4", "--cluster", "timeout_min=1"], "--executor local or slurm"),
        (["fig4", "--executor", "local", "--cluster", "colour=red"], "colour"),
        (["fig4", "--executor", "local", "--cluster", "colour"], "--cluster 'colour' must be KEY=VALUE"),
        (["fig4", "--at-once", "2"], "--at-once 2 has no effect with --executor here"),
        (["fig4", "--out", "/proc/nothing"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, said, tmp_path, capsys):
    where = [] if "--out" in words else ["--out", tmp_path / "out"]
    assert main("reproduce", *words, *where) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("fsl: ")
    assert err.count("\n") == 1
    assert list(tmp_path.glob("out/*")) == []


@pytest.mark.slow
def test_runs_that_were_tested_on_different_tasks_are_not_one_cell(tiny, tmp_path, capsys):
    assert main("reproduce", "fig4", "--out", tmp_path) == 0
    (file,) = tmp_path.glob("cells/sine-maml-*/seed1/result.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"episode_hash": "f" * 16}))
    capsys.readouterr()
    assert main("reproduce", "fig4", "--out", tmp_path) == 2
    err = capsys.readouterr().err
    assert "MAML, sine: its runs with seeds 0 and 1 were tested on different tasks" in err
    assert err.count("\n") == 1


def test_missing_data_are_named_before_anything_runs(tiny, tmp_path, capsys):
    assert main("reproduce", "table1", "--out", tmp_path / "out", "--data-dir", tmp_path / "none") == 2
    err = capsys.readouterr().err
    assert "mini and cub" in err
    assert "fsl data prepare mini --source PATH" in err
    assert err.count("\n") == 1


def test_data_that_hold_too_little_are_reported_before_anything_is_written(tiny, tmp_path, data_dir, capsys):
    assert main("reproduce", "table1", "--out", tmp_path, "--data-dir", data_dir) == 2  # 8 images a class, not 17
    err = capsys.readouterr().err
    assert "images" in err
    assert err.count("\n") == 1
    assert list(tmp_path.glob("cells/*")) == []


def test_all_runs_what_it_can_and_says_what_it_left_out(tmp_path, capsys):
    assert main("reproduce", "all", "--report-only", "--out", tmp_path, "--data-dir", tmp_path / "none") == 0
    out = capsys.readouterr().out
    assert {p.name for p in tmp_path.glob("*.md")} == {"fig3-quick.md", "fig4-quick.md"}
    assert [line.split()[2] for line in out.splitlines() if line.startswith("left out")] == ["table1", "table2", "fig5"]
