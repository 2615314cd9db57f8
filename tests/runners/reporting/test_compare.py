"""`fsl compare`: numbers by hand, groups of seeds, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runners.reporting import compare
from runners.reporting.compare import Scored, difference, short_names, table, verdict
from tests.helpers.cli import TINY, main, sets


def scored(scores, name="a", metric="accuracy"):
    return Scored(name, "mini", metric, "0" * 16, np.array(scores, dtype=float))


def write(folder, scores, episodes="0" * 16, metric="accuracy"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    finite = [score for score in scores if score is not None]
    result = {
        "env": "mini", "agent": "maml", "metric": metric, "episode_hash": episodes, "scores": scores,
        "tasks": len(scores), "diverged": 0, "versions": {}, "trained_tasks": 1, "best_at_tasks": 1,
        "mean": finite[0] if finite else None, "ci95": 0.0 if len(finite) > 1 else None, "median": None,
        "settings": {"env": "mini", "agent": "maml", "seed": 0, "train_tasks": 1},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_the_intervals_by_hand():
    d = difference(scored([[0.5, 0.7, 0.9]]), scored([[0.4, 0.7, 0.7]]))
    assert d.mean == pytest.approx(0.1)
    assert d.paired == pytest.approx(1.96 * (0.01 / 3) ** 0.5)  # differences 0.1, 0, 0.2: variance 0.01
    assert d.unpaired == pytest.approx(1.96 * ((0.04 + 0.03) / 3) ** 0.5)
    assert d.seeds is None


def test_pairing_finds_what_the_difficulty_of_tasks_hides():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0.5, 0.2, 600)
    a, b = (difficulty + shift + rng.normal(0, 0.02, 600) for shift in (0.01, 0))
    d = difference(scored([a]), scored([b]))
    assert d.paired < 0.2 * d.unpaired
    assert verdict(d, "accuracy") == "better"
    assert verdict(d, "mse") == "worse"
    assert d.mean < d.unpaired  # two independent samples would not have shown the difference


def test_groups_of_seeds_are_their_mean_on_every_task():
    d = difference(scored([[1, 2, 3], [3, 4, 7]]), scored([[0, 1, 2], [2, 3, 4]]))
    assert d.mean == pytest.approx(np.mean([1, 1, 2]))
    # variances of the means 16/9 and 1: 1.854599 degrees of freedom (Welch and Satterthwaite), whose t is 4.642642
    assert d.seeds == pytest.approx(4.642642 * (16 / 9 + 1) ** 0.5)


def test_tasks_that_diverged_are_excluded_and_reported():
    a, b = scored([[1, np.nan, 3, 5]], "a", "mse"), scored([[1, 2, 4, np.nan]], "b", "mse")
    assert (difference(a, b).mean, difference(a, b).tasks) == (-0.5, 2)
    assert "Tasks that are not finite are excluded: a 1, b 1." in table([a, b])


def test_the_verdict_says_what_speaks_against_it():
    ten = np.arange(10.0)
    close, far = scored([ten, ten + 2], metric="mse"), scored([ten + 0.5, ten + 2.5], metric="mse")
    d = difference(close, far)
    assert (d.mean, d.paired) == (-0.5, 0)
    assert d.seeds > 2  # training anew moves the error by much more
    assert verdict(d, "mse") == "no clear difference over seeds"
    broken = scored([[*ten[:9], np.nan]], metric="mse")
    whole = scored([ten + 0.5], metric="mse")
    assert verdict(difference(broken, whole), "mse") == "better, but diverges more often"
    assert verdict(difference(whole, broken), "mse") == "worse, but diverges less often"
    assert verdict(difference(scored([[*(ten[:9] + 1), np.nan]]), scored([ten])), "mse") == "worse"


def test_runs_have_distinct_names(tmp_path, monkeypatch):
    for name in ("a/seed0", "b/seed0", "b/seed1"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/seed0/eval-sine-1.json", "b/seed0/eval-sine-1.json"):
        (tmp_path / name).write_text("{}")
    a, b, other = tmp_path / "a" / "seed0", tmp_path / "b" / "seed0", tmp_path / "b" / "seed1"
    assert short_names([a, other]) == ["seed0", "seed1"]
    assert short_names([a, b]) == ["a/seed0", "b/seed0"]
    assert short_names([a, a]) == ["seed0", "seed0"]
    assert short_names([b / "eval-sine-1.json", other]) == ["seed0/eval-sine-1", "b/seed1"]
    assert short_names([p / "eval-sine-1.json" for p in (a, b)]) == ["a/seed0/eval-sine-1", "b/seed0/eval-sine-1"]
    monkeypatch.chdir(a)
    assert short_names([Path(), other]) == ["seed0", "seed1"]


def test_numbers_for_machines(tmp_path, capsys):
    a, b, c = (
        write(tmp_path / name, s) for name, s in (("a", [0.4, 0.6, 0.9]), ("b", [0.5, 0.8, 1]), ("c", [1, None, None]))
    )
    assert main("compare", a, b, c, "--json") == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert "difference" not in first
    assert (first["name"], first["runs"], first["metric"]) == ("a", 1, "accuracy")
    assert (second["mean"], second["not_finite"]) == (pytest.approx(23 / 30), 0)
    d = second["difference"]
    assert d["mean"] == pytest.approx(0.4 / 3)
    assert d["paired"] == pytest.approx(1.96 * (0.01 / 9) ** 0.5)  # differences 0.1, 0.2, 0.1: variance 0.01 / 3
    assert (d["tasks"], d["seeds"], d["verdict"]) == (3, None, "better")
    assert (third["mean"], third["not_finite"], third["difference"]["mean"]) == (None, 2, None)


def test_real_runs_and_a_group(tmp_path, capsys):
    for words in (["--agent", "maml", "--seeds", 2], ["--agent", "turtle"]):
        assert main("run", "--env", "sine", "--log-dir", tmp_path / "runs", *words, *sets(*TINY)) == 0
    runs = sorted((tmp_path / "runs").iterdir())
    for ending in ("png", "svg"):
        assert main("compare", *runs, "--plot", tmp_path / f"c.{ending}") == 0
    out = capsys.readouterr().out
    assert "8 test tasks of sine" in out
    group, one = compare.read_all(runs)
    assert (group.scores.shape, one.scores.shape) == ((2, 8), (1, 8))
    d = difference(one, group)
    assert f"{d.mean:+.4f} ± {d.paired:.4f} ± {d.unpaired:.4f}" in " ".join(out.split())
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 1000
    assert "<svg" in (tmp_path / "c.svg").read_text()


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, capsys):
    a, b = write(tmp_path / "a", [1, 2]), write(tmp_path / "b", [1, 2], episodes="f" * 16)
    unfinished = tmp_path / "c"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    plot = ["--plot", tmp_path / "x.png"]
    for words, message in (
        ([a, b], "was tested on other episodes"),
        ([a], "needs two runs"),
        ([a, unfinished], "has no result yet"),
        ([a, tmp_path / "nothing"], "; name one of a run"),
        ([a, a, "--plot", tmp_path / "x.gif"], "must end in .png or .svg"),
    ):
        assert main("compare", *plot, *words) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert message in lines[0]
    assert not (tmp_path / "x.png").exists()
    group = tmp_path / "group"
    write(group / "seed0", [1, 2])
    write(group / "seed1", [1, 2], episodes="f" * 16)
    assert main("compare", a, group, *plot) == 2
    assert "were tested on different episodes" in capsys.readouterr().err
