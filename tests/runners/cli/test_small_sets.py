"""A few classes of your own: as a target alone, without validation, and the command that is printed works."""

import shlex

import pytest

from runners.storage.schemas import read_result
from tests.helpers.cli import SMALL_NET, TINY, main, only_run, sets
from tests.helpers.images import write_image

FAST = sets("train_tasks=4", "test_tasks=4", *SMALL_NET)


def draw(root, **classes):
    """Folders of so many images: draw(root, train__a=3) makes train/a/ with three."""
    for number, (place, count) in enumerate(classes.items()):
        folder = root / place.replace("__", "/")
        folder.mkdir(parents=True)
        for i in range(count):
            write_image(folder / f"{i}.png", 10 * number + i, number / len(classes))
    return root


@pytest.fixture
def prepare(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def act(*more):
        assert main("data", "prepare", "my set".replace(" ", "-"), "--source", tmp_path / "my pictures", "--data-dir",
                    tmp_path / "the data", *more) == 0  # fmt: skip
        return capsys.readouterr().out.splitlines()

    return act


def tried(lines, capsys, *more):
    """Run the command that was printed, as it was printed, with fewer tasks; its result line and the run's result."""
    (printed,) = [line.removeprefix("try: ") for line in lines if line.startswith("try: ")]
    words = shlex.split(printed)
    assert words[0] == "fsl"
    assert main(*words[1:], "--log-dir", "r", *FAST, *more) == 0
    return capsys.readouterr().out.strip(), read_result(only_run("r"))


def test_three_classes_as_a_target(tmp_path, prepare, capsys):
    draw(tmp_path / "my pictures", a=3, b=4, c=5)
    lines = prepare("--split", "test")
    assert "train: no classes" in lines
    assert "test: 3 classes, 12 images, 3 to 5 a class, fewest in a: up to 3 ways" in lines
    (printed,) = [line for line in lines if line.startswith("try: ")]
    assert printed == (
        "try: fsl run --env 'glyphs->my-set' --agent turtle --n-way 3 --n-query 2 --preset quick --set env.size=84 "
        f"--data-dir '{tmp_path}/the data'"
    )
    line, result = tried(lines, capsys, "--set", "val_tasks=2")
    assert line.startswith("test on my-set: accuracy")
    assert result["settings"]["env.n_way"] == 3
    assert main("run", "--env", "my-set", "--agent", "maml", "--data-dir", tmp_path / "the data") == 2
    error = capsys.readouterr().err
    assert "the train split of my-set holds no classes, only test does; name another environment to train on" in error


def test_train_and_test_without_val(tmp_path, prepare, capsys):
    draw(tmp_path / "my pictures", train__a=3, train__b=3, test__c=3, test__d=3)
    lines = prepare()
    assert "val: no classes; the last weights are tested" in lines
    assert "train: 2 classes, 6 images, 3 a class: up to 2 ways" in lines
    line, result = tried(lines, capsys)
    assert "; tested the last weights, after 4 tasks: there was no validation; quick preset" in line
    assert (result["best_at_tasks"], result["settings"]["val_tasks"]) == (4, 0)
    run = only_run("r")
    assert main("eval", run, "--tasks", "3") == 0
    assert "there was no validation" in capsys.readouterr().out
    assert main("report", run) == 0
    words = [
        "run",
        "--env",
        "my-set",
        "--agent",
        "maml",
        "--n-way",
        2,
        "--n-query",
        2,
        "--data-dir",
        tmp_path / "the data",
    ]
    assert main(*words, "--dry-run", *FAST) == 0
    assert "validation 0" not in capsys.readouterr().out
    assert main(*words, *FAST, "--set", "val_tasks=5") == 2
    assert "val_tasks is 5, but my-set has no validation classes" in capsys.readouterr().err


def test_one_validation_class_is_not_validated_on(tmp_path, prepare, capsys):
    draw(tmp_path / "my pictures", train__a=3, train__b=3, val__e=3, test__c=3, test__d=3)
    lines = prepare()
    assert "val: 1 class, 3 images, 3 a class: no task: 2 classes at least" in lines
    line, _ = tried(lines, capsys)
    assert "there was no validation" in line


def test_too_few_classes_say_what_to_do(tmp_path, prepare, capsys):
    root = draw(tmp_path / "my pictures", a=3, b=3)
    assert main("data", "prepare", "my-set", "--source", root) == 2
    assert "2 classes cannot be split into train, val and test; get at least 3" in (error := capsys.readouterr().err)
    assert "--split test" in error
    draw(root, c=3, d=3)
    lines = prepare()  # 2 / 1 / 1
    assert "these splits have no tasks to test on" in lines
    for start, expected in (
        ("to split the classes anew: ", "test: 2 classes, 6 images, 3 a class: up to 2 ways"),
        ("to make all of them the target of another data set: ", "test: 4 classes, 12 images, 3 a class: up to 4 ways"),
    ):
        (advice,) = [line.removeprefix(start) for line in lines if line.startswith(start)]
        assert main(*shlex.split(advice)[1:]) == 0
        again = capsys.readouterr().out.splitlines()
        assert expected in again
    tried(again, capsys, "--set", "val_tasks=2")


def test_classes_of_one_image(tmp_path, prepare):
    draw(tmp_path / "my pictures", a=1, b=3)
    assert any("at least 2 images of a class" in line for line in prepare("--split", "test"))


def test_enough_classes_are_tried_as_they_are(tmp_path, prepare):
    draw(tmp_path / "my pictures", **{f"c{i}": 17 for i in range(15)})
    lines = prepare("--split", "1/1/1")
    assert "train: 5 classes, 85 images, 17 a class: up to 5 ways" in lines
    assert lines[-1].startswith("try: fsl run --env my-set --agent turtle --preset quick --data-dir")


@pytest.mark.parametrize(("env", "size"), [("glyphs->my-set", 84), ("my-set->glyphs", 84), ("my-set->textures", 84)])
def test_a_pair_of_different_sizes_names_the_setting(env, size, tmp_path, prepare, capsys):
    draw(tmp_path / "my pictures", **{f"c{i}": 4 for i in range(12)})
    prepare("--split", "1/1/1")
    words = ["run", "--env", env, "--agent", "maml", "--data-dir", tmp_path / "the data", "--log-dir", "r"]
    words += [*sets(*TINY, *SMALL_NET), "--n-way", 2, "--n-query", 2]
    assert main(*words) == 2
    assert f"make them equal with --set env.size={size}" in capsys.readouterr().err
    assert main(*words, "--set", f"env.size={size}") == 0
    run = only_run("r")
    assert read_result(run)["settings"]["env.size"] == size
    assert main("eval", run, "--env", "my-set") == 0
