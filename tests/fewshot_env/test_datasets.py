"""Preparing data sets: layouts, splits, partial copies, and what goes wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from fewshot_env.datasets import decode, prepare, read_cub
from fewshot_env.errors import FewShotError
from fewshot_env.store import ImageStore, checksum
from tests.conftest import write_cub, write_mini


@pytest.fixture
def mini_source(tmp_path):
    return write_mini(tmp_path / "mini", n_images=2)


@pytest.fixture
def cub_source(tmp_path):
    return write_cub(tmp_path / "cub", n_classes=4)


def refuses(match, name, source, folder):
    with pytest.raises(FewShotError, match=match) as caught:
        prepare(name, source, folder)
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("*")) + list(folder.glob(".*"))


def test_mini(mini_source, tmp_path):
    seen = []
    store = prepare("mini", mini_source, tmp_path / "s", lambda items: (seen.append(i) or i for i in items))
    assert len(seen) == 40
    assert store.images.shape == (40, 84, 84, 3)
    assert [len(store.of_split(s)) for s in ("train", "val", "test")] == [8, 6, 6]
    assert store.index["sha256"] == checksum(store.images)
    for c in store.classes:
        for i in range(c.count):
            file = store.index["files"][c.start + i]
            assert file.startswith(c.name)
            assert (store.images[c.start + i] == decode(mini_source / "images" / file)).all()
    assert store.holdings() == (
        "train 8 classes, 16 images (of 64, 38400); val 6 classes, 12 images (of 16, 9600); "
        "test 6 classes, 12 images (of 20, 12000)"
    )


def test_cub_uneven_classes_and_gray_images(cub_source, tmp_path):
    store = prepare("cub", cub_source, tmp_path / "s")
    assert {c.name: (c.split, c.count) for c in store.classes} == {
        "001.Bird_1": ("train", 8), "002.Bird_2": ("val", 9), "003.Bird_3": ("train", 7), "004.Bird_4": ("test", 8),
    }  # fmt: skip
    gray = store.images[store.index["files"].index("b2.jpg")]
    assert (gray[..., 0] == gray[..., 1]).all()


def test_chen_split_of_cub_gives_the_official_numbers(tmp_path):
    lines = [f"{c} {c:03d}.X/a.jpg" for c in range(1, 201)]
    (tmp_path / "images.txt").write_text("\n".join(lines))
    found = read_cub(tmp_path)
    assert [sum(s.split == n for s in found) for n in ("train", "val", "test")] == [100, 50, 50]
    first = {s.class_name[:3]: s.split for s in found[:5]}
    assert first == {"001": "train", "002": "val", "003": "train", "004": "test", "005": "train"}


def test_preparing_twice_gives_the_same_store_and_replaces_it(mini_source, tmp_path):
    one = prepare("mini", mini_source, tmp_path / "s")
    index = dict(one.index)
    assert prepare("mini", mini_source, tmp_path / "s").index == index
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mini"]


def test_decode_squashes_the_frame(tmp_path):
    pixels = np.zeros((50, 100, 3), np.uint8)
    pixels[:, 50:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = decode(tmp_path / "a.png")
    assert small.shape == (84, 84, 3)
    assert small[:, :38].max() < 10
    assert small[:, -38:].min() > 245


def test_broken_image(mini_source, tmp_path):
    victim = sorted((mini_source / "images").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:100])
    refuses(f"{victim.name} is not a readable image", "mini", mini_source, tmp_path / "s")
    victim.write_text("<html>not found</html>")
    refuses(f"{victim.name} is not a readable image", "mini", mini_source, tmp_path / "s")


def test_an_older_store_survives_a_failure(mini_source, tmp_path):
    prepare("mini", mini_source, tmp_path / "s")
    next((mini_source / "images").iterdir()).write_text("x")
    with pytest.raises(FewShotError, match="not a readable image"):
        prepare("mini", mini_source, tmp_path / "s")
    ImageStore.open(tmp_path / "s" / "mini")
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mini"]


def test_missing_images(mini_source, tmp_path):
    for file in sorted((mini_source / "images").iterdir())[1:]:
        file.unlink()
    store = prepare("mini", mini_source, tmp_path / "partial")
    assert len(store.images) == 1
    assert store.holdings().endswith("39 listed images absent")
    next((mini_source / "images").iterdir()).unlink()
    refuses("holds none of the 40 images that it lists", "mini", mini_source, tmp_path / "s")


def test_wrong_layouts(mini_source, cub_source, tmp_path):
    refuses("is not a folder", "mini", tmp_path / "nowhere", tmp_path / "s")
    refuses("train.csv can not be read", "mini", cub_source, tmp_path / "s")
    refuses("images.txt can not be read", "cub", mini_source, tmp_path / "s")
    refuses("unknown data set 'mimi'.*did you mean 'mini'", "mimi", mini_source, tmp_path / "s")
    (cub_source / "images.txt").write_text("1 Bird/x.jpg")
    refuses("expected lines", "cub", cub_source, tmp_path / "s")
    table = mini_source / "val.csv"
    table.write_text(table.read_text().replace("label", "klass"))
    refuses("must have the columns filename,label", "mini", mini_source, tmp_path / "s")
    table.write_text((mini_source / "train.csv").read_text())
    refuses("Ravi & Larochelle split puts into train", "mini", mini_source, tmp_path / "s")


def test_unwritable_folder(mini_source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FewShotError, match="can not be written"):
        prepare("mini", mini_source, tmp_path / "file")


def test_damaged_stores_are_told(mini_source, tmp_path):
    store = prepare("mini", mini_source, tmp_path / "s").path
    whole = (store / "images.npy").read_bytes()
    (store / "images.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FewShotError, match="can not be read"):
        ImageStore.open(store)
    (store / "images.npy").write_bytes(whole)
    index = json.loads((store / "index.json").read_text())
    for broken in (
        "{",
        "[]",
        json.dumps(index | {"version": 99}),
        json.dumps(index | {"classes": index["classes"][1:]}),
    ):
        (store / "index.json").write_text(broken)
        with pytest.raises(FewShotError, match="prepare it again"):
            ImageStore.open(store)
