"""The small commands: list, show, data."""

from importlib.metadata import version

import pytest

from tests.helpers.cli import fsl, main
from tests.helpers.images import write_cub, write_mini


def test_list(capsys, monkeypatch, data_dir, tmp_path):
    monkeypatch.setenv("FSL_HOME", str(tmp_path))
    assert main("list") == 0
    out = capsys.readouterr().out
    assert "sine" in out
    assert "mini no data miniImageNet, 84x84 RGB" in " ".join(out.split())
    assert "fsl data list says how to get it" in out
    (tmp_path / "data").symlink_to(data_dir)
    main("list")
    out = capsys.readouterr().out
    assert "no data" not in out
    assert all(name in out for name in ("turtle", "fo-maml", "lstm-enhanced", "baseline++", "chance"))


def test_show(capsys):
    assert main("show", "lstm-enhanced") == 0
    out = capsys.readouterr().out
    assert "agent.first_order = false" in out
    assert "agent.inner_steps = 8" in out
    assert main("show", "maml") == 0
    out = capsys.readouterr().out
    assert "alpha, learning rate of the inner loop" in out
    assert "inner_steps = 5, eval_steps = 10, meta_batch = 4" in out


def test_version(capsys):
    assert main("--version") == 0
    assert capsys.readouterr().out.startswith(f"fewshot {version('fewshot')}, torch {version('torch')}, ")


def test_a_pair_has_the_settings_of_its_source(capsys):
    for pair in ("sine->mini", "sine:mini"):
        assert main("show", pair) == 0
        assert "env.noise = 0.0" in capsys.readouterr().out
    assert main("show", "sin->mini") == 2
    assert "unknown environment 'sin' (did you mean 'sine'?)" in capsys.readouterr().err


def test_show_environments_and_runs(capsys):
    assert main("show", "sine") == 0
    out = capsys.readouterr().out
    assert "env.noise = 0.0" in out
    assert "env.split" not in out
    assert main("show", "run") == 0
    out = capsys.readouterr().out
    assert "val_every = 2500" in out
    assert "train_tasks = 70000" in out


def test_prepare_and_list_data(tmp_path, capsys):
    write_mini(tmp_path / "m", n_images=1)
    write_cub(tmp_path / "c", n_classes=4)
    stores = tmp_path / "stores"
    main("data", "list", "--data-dir", stores)
    assert capsys.readouterr().out.count("not prepared") == 3
    assert main("data", "prepare", "mini", "--source", tmp_path / "m", "--data-dir", stores) == 0
    assert "train: 8 classes, 8 images (of 64, 38400), 1 a class: no task" in capsys.readouterr().out
    assert main("data", "prepare", "cub", "--source", tmp_path / "c", "--data-dir", stores) == 0
    main("data", "list", "--data-dir", stores)
    out = capsys.readouterr().out
    assert "cub      train 2 classes, 15 images (of 100, 5885)" in out


@pytest.mark.slow
def test_help():
    done = fsl("--help")
    assert "run" in done.stdout
