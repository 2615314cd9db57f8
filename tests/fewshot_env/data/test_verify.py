"""fsl data check: damage, splits, official numbers and images that occur twice."""

import json
import shutil

import numpy as np
import pytest

from fewshot_env.data.splits import split_list
from fewshot_env.data.verify import verify_store
from fewshot_env.datasets import DATASETS
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from fewshot_env.rng import SPLITS
from fewshot_env.store import ImageStore
from tests.helpers.cli import main
from tests.helpers.images import write_mini


@pytest.fixture
def mini(tmp_path):
    """A prepared mini with two pairs of identical files: one within train, one across train and val."""
    source = write_mini(tmp_path / "source", n_images=3)
    files = {s: [x.split(",")[0] for x in (source / f"{s}.csv").read_text().split()[1:]] for s in SPLITS}
    shutil.copy(source / "images" / files["train"][0], source / "images" / files["train"][5])
    shutil.copy(source / "images" / files["train"][1], source / "images" / files["val"][2])
    prepare("mini", source, tmp_path / "s")
    return tmp_path / "s", files


def change(store, **facts):
    index = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps(index | facts))
    return index


def test_a_good_store(mini, capsys):
    folder, files = mini
    assert main("data", "check", "mini", "--data-dir", folder) == 0
    out = capsys.readouterr().out
    sha = ImageStore.open(folder / "mini").index["sha256"]
    assert f"checksum: right (sha256 {sha[:16]})" in out
    assert "as in the Ravi & Larochelle list, a partial copy" in out
    assert "train 8 classes, 24 images (of 64, 38400)" in out
    assert "groups of identical images: 2, of which across splits: 1" in out
    across, within = (line.strip() for line in out.splitlines()[-2:])
    train, val = ([f"{file[:9]}/{file}" for file in files[split]] for split in ("train", "val"))
    assert across == f"{train[1]} (train) = {val[2]} (val)"
    assert within == f"{train[0]} (train) = {train[5]} (train)"


def test_many_identical_images_take_few_lines(small_store, tmp_path):
    blank = ImageStore(
        tmp_path, "x", np.zeros_like(small_store.images), small_store.classes,
        {"sha256": "4c9c", "files": [f"{i}.jpg" for i in range(180)]},
    )  # fmt: skip
    with pytest.raises(FewShotError, match="has the checksum"):
        verify_store(blank)
    from fewshot_env.store import checksum

    blank.index["sha256"] = checksum(blank.images)
    report = verify_store(blank)
    assert len(report.duplicates) == 1
    assert len(report.duplicates[0]) == 180
    assert len(report.lines) == 5
    assert len(report.lines[-1]) < 400


def test_changed_pixels(mini, capsys):
    folder, _ = mini
    images = np.load(folder / "mini" / "images.npy", mmap_mode="r+")
    images[7, 3, 3, 1] ^= 1
    images.flush()
    assert main("data", "check", "mini", "--data-dir", folder) == 2
    assert "has the checksum" in (error := capsys.readouterr().err)
    assert "prepare it again: fsl data prepare mini --source PATH" in error


def test_a_class_in_two_splits_is_refused_when_a_store_is_opened(mini):
    store = mini[0] / "mini"
    classes = change(store)["classes"]
    doubled = [c | {"name": classes[0]["name"]} if c["split"] == "test" else c for c in classes]
    change(store, classes=doubled)
    with pytest.raises(FewShotError, match=f"class {classes[0]['name']} is in train and in test"):
        ImageStore.open(store)
    change(store, classes=[c | {"start": 0} for c in classes])
    with pytest.raises(FewShotError, match="is out of order"):
        ImageStore.open(store)


def test_a_class_against_the_official_list(mini):
    store = mini[0] / "mini"
    classes = change(store)["classes"]
    change(store, classes=[classes[0] | {"split": "val"}, *classes[1:]])
    with pytest.raises(FewShotError, match="in val, unlike the Ravi & Larochelle split"):
        verify_store(ImageStore.open(store))


def test_more_than_the_official_numbers(mini, monkeypatch):
    few = split_list("mini").official | {"val": [16, 10]}
    monkeypatch.setitem(split_list("mini").official, "val", few["val"])
    with pytest.raises(
        FewShotError, match=r"holds \[6, 18\] \[classes, images\] in val, more than the official \[16, 10\]"
    ):
        verify_store(ImageStore.open(mini[0] / "mini"))


def test_a_complete_copy_says_so(mini, monkeypatch):
    for split, numbers in (("train", [8, 24]), ("val", [6, 18]), ("test", [6, 18])):
        monkeypatch.setitem(split_list("mini").official, split, numbers)
    assert "complete" in verify_store(ImageStore.open(mini[0] / "mini")).lines[1]


def test_what_is_not_prepared(tmp_path, capsys):
    assert main("data", "check", "cub", "--data-dir", tmp_path) == 2
    assert "CUB-200-2011 is not prepared" in (error := capsys.readouterr().err)
    assert "(or --download instead of --source PATH)" in error


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("mini", {"train": [64, 38400], "val": [16, 9600], "test": [20, 12000]}),
        ("cub", {"train": [100, 5885], "val": [50, 2950], "test": [50, 2953]}),
        ("cub-meta-dataset", {"train": [140, 8239], "val": [30, 1779], "test": [30, 1770]}),
        ("cub-meta-dataset-no-imagenet", {"train": [140, 8204], "val": [30, 1771], "test": [30, 1770]}),
    ],
)
def test_shipped_lists_hold_the_official_numbers_of_classes(name, numbers):
    found = split_list(name)
    assert dict(found.official) == numbers
    for split in SPLITS:
        assert list(found.split_of.values()).count(split) == numbers[split][0]
    assert any(name in kind.splits.values() for kind in DATASETS.values())
