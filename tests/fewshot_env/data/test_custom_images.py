"""One's own folders of images: splits, names, and the environments that they become."""

import os
import shutil
from contextlib import nullcontext

import gymnasium
import pytest

from fewshot_env.data.class_splits import split_by_ratio
from fewshot_env.data.source import PrepareOptions
from fewshot_env.errors import FewShotError
from fewshot_env.images import ImageSampler
from fewshot_env.prepare import prepare
from fewshot_env.rng import SPLITS
from fewshot_env.store import ImageStore
from tests.helpers.cli import SMALL_NET, TINY, main, only_run, result_of, sets
from tests.helpers.images import write_image

IMAGES = ["env.n_way=2", "env.n_shot=1", "env.n_query=2"]


@pytest.fixture
def birds(tmp_path):
    """12 classes of 5 images: png and jpg, and files that are no images."""
    root = tmp_path / "birds"
    for c in range(12):
        (root / f"bird {c}").mkdir(parents=True)
        for i in range(5):
            write_image(root / f"bird {c}" / f"{i}.{'png' if i % 2 else 'JPG'}", 100 * c + i, c / 12)
        (root / f"bird {c}" / "Thumbs.db").write_text("x")
    (root / ".git").mkdir()
    (root / "notes.txt").write_text("x")
    return root


def refuses(match, source, folder, name="my-birds", **options):
    with pytest.raises(FewShotError, match=match) as caught:
        prepare(name, source, folder, options=PrepareOptions(**options))
    assert "\n" not in str(caught.value)
    assert not (folder / name).exists()


def test_class_folders_by_ratio(birds, tmp_path):
    store = prepare("my-birds", birds, tmp_path / "s")
    assert [len(store.of_split(s)) for s in SPLITS] == [8, 2, 2]
    assert {c.count for c in store.classes} == {5}
    assert {c.name: c.split for c in store.classes} == split_by_ratio([f"bird {c}" for c in range(12)], "60/20/20")
    prints = [ImageSampler(store, n_way=2, n_query=2).fingerprint]
    even = prepare("my-birds", birds, tmp_path / "s", options=PrepareOptions(split="1/1/1"))
    again = prepare("my-birds", birds, tmp_path / "s", options=PrepareOptions(split="2/2/2"))
    prints += [ImageSampler(s, n_way=2, n_query=2).fingerprint for s in (even, again)]
    assert prints[0] != prints[1] == prints[2]
    assert [len(even.of_split(s)) for s in SPLITS] == [4, 4, 4]


@pytest.mark.parametrize("n", range(3, 30))
def test_ratios_give_every_split_a_class_and_do_not_depend_on_the_order(n):
    names = [f"c{i}" for i in range(n)]
    sampled = split_by_ratio(names, "64/16/20")
    assert sampled == split_by_ratio(names[::-1], "64/16/20")
    counts = [list(sampled.values()).count(s) for s in SPLITS]
    assert min(counts) >= 1
    assert counts[1] == max(1, round(n * 0.16))
    assert counts[2] == max(1, round(n * 0.20))


def test_two_splits_of_the_same_pixels_have_two_fingerprints(birds, tmp_path):
    """Moving the border between train and val leaves the pixels in their order."""
    found = []
    for n_train in (4, 5):
        table = tmp_path / "split.csv"
        parts = ["train"] * n_train + ["val"] * (8 - n_train) + ["test"] * 2
        table.write_text("class,split\n" + "".join(f"bird {c},{part}\n" for c, part in enumerate(parts)))
        store = prepare("my-birds", birds, tmp_path / "s", options=PrepareOptions(split=str(table)))
        found.append((store.index["sha256"], ImageSampler(store, n_way=3, n_query=2).fingerprint))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_a_split_file(birds, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("class,split\nbird 1,train\nbird 2,train\nbird 3,validation\nbird 5,test\n")
    store = prepare("my-birds", birds, tmp_path / "s", options=PrepareOptions(split=str(table)))
    assert {c.name: c.split for c in store.classes} == {
        "bird 1": "train", "bird 2": "train", "bird 3": "val", "bird 5": "test",
    }  # fmt: skip
    for text, match in (
        ("class,split\nbird 1,train\nbird 1,test\n", "lists class bird 1 in train and in test"),
        ("class,split\nbird 99,train\n", "lists class bird 99, which has no folder"),
        ("class,split\nbird 1,later\n", "line 2: must have lines class,split with train, val or test"),
        ("name,part\nbird 1,train\n", "must have lines class,split with train, val or test"),
        ("class,split\n", "must have lines class,split with train, val or test"),
    ):
        table.write_text(text)
        refuses(match, birds, tmp_path / "t", split=str(table))
    table.write_text("Class ; Split\r\nbird 1 ; TRAIN\r\nbird 2; Novel\r\n")
    store = prepare("my-birds", birds, tmp_path / "s", options=PrepareOptions(split=str(table)))
    assert {c.name: c.split for c in store.classes} == {"bird 1": "train", "bird 2": "test"}
    assert store.index["left_out"] == {f"in classes that {table} does not list": 50}
    refuses("but must be a CSV file", birds, tmp_path / "t", split="nowhere.csv")
    refuses("but must be a CSV file .* a ratio such as", birds, tmp_path / "t", split="80/20")
    refuses("but must be a CSV file .* a ratio such as", birds, tmp_path / "t", split="80/20/0")


def test_explicit_folders(birds, tmp_path):
    split = tmp_path / "split"
    for c, part in enumerate(["train", "train", "train", "val", "test", "test"]):
        (split / part).mkdir(parents=True, exist_ok=True)
        (birds / f"bird {c}").rename(split / part / f"bird {c}")
    store = prepare("my-birds", split, tmp_path / "s")
    assert [len(store.of_split(s)) for s in SPLITS] == [3, 1, 2]
    pooled = prepare("my-birds", split, tmp_path / "t", options=PrepareOptions(split="1/1/1"))
    assert [len(pooled.of_split(s)) for s in SPLITS] == [2, 2, 2]


def test_what_is_no_data_set(birds, tmp_path):
    (tmp_path / "empty").mkdir()
    refuses(
        "none of the known layouts of the data set; expected folders train/, val/, test/",
        tmp_path / "empty",
        tmp_path / "t",
    )
    (birds / "bird of none").mkdir()
    assert prepare("my-birds", birds, tmp_path / "n").index["notes"] == ["1 folder without images: bird of none"]
    refuses("'sine' is already an environment", birds, tmp_path / "t", name="sine")
    for name in ("a->b", "a b", "../x", "my-", "", "a:b", "a/b"):
        with pytest.raises(FewShotError, match="cannot name a data set"):
            prepare(name, birds, tmp_path / "t")
    assert not (tmp_path / "t" / "x").exists()


def test_broken_and_tiny_images_are_left_out_on_request_alone(birds, tmp_path, capsys):
    broken, tiny = birds / "bird 3" / "0.JPG", birds / "bird 7" / "1.png"
    broken.write_text("<html>not found</html>")
    tiny.unlink()
    write_image(tiny, 1, 0.5)
    from PIL import Image

    Image.open(tiny).resize((1, 1)).save(tiny)
    stores = ["--data-dir", tmp_path / "s"]
    assert main("data", "prepare", "my-birds", "--source", birds, *stores) == 2
    assert "not a readable image" in (error := capsys.readouterr().err)
    assert "--skip-broken" in error
    assert main("data", "prepare", "my-birds", "--source", birds, "--skip-broken", *stores) == 0
    out = capsys.readouterr().out
    assert "left out: bird 3/0.JPG\n" in out
    assert "left out: bird 7/1.png\n" in out
    assert "left out: 2 files: 2 unreadable or tiny (--skip-broken)" in out
    store = ImageStore.open(tmp_path / "s" / "my-birds")
    assert len(store.images) == 58
    assert {c.name: c.count for c in store.classes if c.count < 5} == {"bird 3": 4, "bird 7": 4}
    for file in birds.rglob("*.*"):
        file.write_text("x") if file.suffix in (".JPG", ".png") else None
    assert main("data", "prepare", "other", "--source", birds, "--skip-broken", *stores) == 2
    assert "none of the 60 images of other can be read" in capsys.readouterr().err


def test_prepared_stores_are_environments_by_name(birds, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FSL_HOME", str(tmp_path / "home"))
    assert main("run", "--env", "my-birds", "--agent", "maml") == 2
    assert "unknown environment 'my-birds'" in capsys.readouterr().err
    assert main("data", "prepare", "my-birds", "--source", birds) == 0
    assert main("list") == 0
    assert "my-birds ready your own images, RGB" in " ".join(capsys.readouterr().out.split())
    assert main("data", "list") == 0
    assert "my-birds train 8 classes, 40 images" in capsys.readouterr().out
    assert main("show", "my-birds") == 0
    words = ["run", "--agent", "maml", "--log-dir", tmp_path / "runs", *sets(*TINY, *SMALL_NET, *IMAGES)]
    assert main(*words, "--env", "my-birds") == 0
    assert result_of(only_run(tmp_path / "runs"))["env"] == "my-birds"
    obs, _ = gymnasium.make("FewShot/my-birds-v0", n_way=2, n_query=2).reset(seed=1)
    assert obs["query_x"].shape == (4, 3, 84, 84)


@pytest.mark.parametrize("name", ["sine", "Sine", "CUB", "MiniImageNet"])
def test_names_and_ids_of_others_are_taken(name, birds, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FSL_HOME", str(tmp_path / "home"))
    assert main("data", "prepare", name, "--source", birds) == 2
    assert "is already an environment" in capsys.readouterr().err
    assert main("data", "prepare", "my-birds", "--source", birds) == 0
    (tmp_path / "home/data/my-birds").rename(tmp_path / "home/data" / name)  # as an older version let be
    with nullcontext() if name == "sine" else pytest.warns(match=f"the data set '{name}' was skipped"):
        assert main("list") == 0


def test_pairs_with_ones_own_and_another_data_dir(birds, data_dir, tmp_path, capsys):
    stores = tmp_path / "stores"
    stores.mkdir()
    (stores / "mini").symlink_to(data_dir / "mini")
    assert main("data", "prepare", "my-birds", "--source", birds, "--data-dir", stores) == 0
    words = ["run", "--env", "mini->my-birds", "--agent", "maml", "--data-dir", stores, "--log-dir", tmp_path / "runs"]
    assert main(*words, *sets(*TINY, *SMALL_NET, *IMAGES)) == 0
    run = only_run(tmp_path / "runs")
    assert result_of(run)["env"] == "mini->my-birds"
    assert main("eval", run, "--env", "my-birds", "--tasks", "4") == 0
    assert "test on mini->my-birds" in capsys.readouterr().out


def test_the_tutorial_from_nothing(tmp_path, monkeypatch, capsys):
    """Its smallest folder (15 classes of 17 images) and its commands: prepare, look, run."""
    monkeypatch.setenv("FSL_HOME", str(tmp_path / "home"))
    for c in range(15):
        (tmp_path / "my-birds" / f"bird {c}").mkdir(parents=True)
        for i in range(17):
            write_image(tmp_path / "my-birds" / f"bird {c}" / f"{i}.jpg", 100 * c + i, c / 15)
    assert main("data", "prepare", "my-birds", "--source", tmp_path / "my-birds", "--split", "1/1/1") == 0
    assert main("data", "check", "my-birds") == 0
    assert "splits: no class in two of them; your own split" in capsys.readouterr().out
    words = ["run", "--env", "my-birds", "--agent", "turtle", "--log-dir", tmp_path / "runs", "--n-shot", "1"]
    assert main(*words, *sets(*TINY, *SMALL_NET)) == 0
    assert result_of(only_run(tmp_path / "runs"))["env"] == "my-birds"


def test_names_that_are_not_utf8_and_fields_that_are_too_long(birds, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("class,split\n" + "x" * 200_000 + ",train\n")
    refuses("split.csv is not a CSV file", birds, tmp_path / "s", split=str(table))
    odd = os.fsencode(birds) + b"/caf\xe9"
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("this file system has no such names")
    shutil.copy(birds / "bird 0" / "1.png", odd + b"/1.png")
    refuses(r"the class folder 'caf\\udce9' has a name that is not UTF-8; rename it", birds, tmp_path / "s")


@pytest.mark.parametrize("dangling", [False, True])
def test_a_store_in_place_of_a_link(dangling, birds, tmp_path):
    elsewhere, stores = tmp_path / "elsewhere", tmp_path / "s"
    if not dangling:
        prepare("my-birds", birds, elsewhere)
    stores.mkdir()
    (stores / "my-birds").symlink_to(elsewhere / "my-birds")
    for _ in range(2):
        prepare("my-birds", birds, stores)
        assert sorted(p.name for p in stores.iterdir()) == [".my-birds.lock", "my-birds"]
        assert not (stores / "my-birds").is_symlink()
    if not dangling:
        ImageStore.open(elsewhere / "my-birds")  # is untouched


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_that_an_older_version_left_behind_goes(dangling, birds, tmp_path):
    stores = tmp_path / "s"
    if not dangling:
        prepare("my-birds", birds, tmp_path / "elsewhere")
    prepare("my-birds", birds, stores)
    (stores / ".my-birds.old").symlink_to(tmp_path / "elsewhere" / "my-birds")
    prepare("my-birds", birds, stores)
    assert sorted(p.name for p in stores.iterdir()) == [".my-birds.lock", "my-birds"]
