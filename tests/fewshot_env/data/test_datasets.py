"""Preparing data sets: layouts, splits, partial copies, and what goes wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from fewshot_env.data.source import SourceImage
from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from fewshot_env.store import ImageStore, checksum
from tests.helpers.images import write_cub, write_mini


@pytest.fixture
def mini_source(tmp_path):
    return write_mini(tmp_path / "mini", n_images=2)


@pytest.fixture
def cub_source(tmp_path):
    return write_cub(tmp_path / "cub", n_classes=4)


def decode(file):
    return SourceImage(file.name, "", "", file).read()


def stores_in(folder):
    """What a preparation leaves: everything but the empty lock files."""
    return sorted(p.name for p in folder.glob("*") if p.suffix != ".lock")


def refuses(match, name, source, folder):
    with pytest.raises(FewShotError, match=match) as caught:
        prepare(name, source, folder)
    assert "\n" not in str(caught.value)
    assert stores_in(folder) == []


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
        "001.Black_footed_Albatross": ("train", 8),
        "002.Laysan_Albatross": ("val", 9),
        "003.Sooty_Albatross": ("train", 7),
        "004.Groove_billed_Ani": ("test", 8),
    }
    gray = store.images[store.index["files"].index("b2.jpg")]
    assert (gray[..., 0] == gray[..., 1]).all()


def test_the_shipped_list_of_chen_et_al_follows_their_rule():
    split_of = split_list("cub").split_of
    for i, name in enumerate(sorted(split_of)):
        assert name.startswith(f"{i + 1:03d}.")
        assert split_of[name] == ("train" if i % 2 == 0 else "val" if i % 4 == 1 else "test")


def test_preparing_twice_gives_the_same_store_and_replaces_it(mini_source, tmp_path):
    one = prepare("mini", mini_source, tmp_path / "s")
    index = dict(one.index)
    assert prepare("mini", mini_source, tmp_path / "s").index == index
    assert stores_in(tmp_path / "s") == ["mini"]


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
    assert stores_in(tmp_path / "s") == ["mini"]


def test_missing_images(mini_source, tmp_path):
    for file in sorted((mini_source / "images").iterdir())[1:]:
        file.unlink()
    store = prepare("mini", mini_source, tmp_path / "partial")
    assert len(store.images) == 1
    assert store.holdings().endswith("39 listed images absent")
    next((mini_source / "images").iterdir()).unlink()
    refuses("holds none of the 40 images that it lists", "mini", mini_source, tmp_path / "s")


def test_wrong_layouts(mini_source, cub_source, tmp_path):
    refuses("nowhere does not exist", "mini", tmp_path / "nowhere", tmp_path / "s")
    refuses(
        "has none of the known layouts of the data set; expected a folder with images/",
        "mini",
        cub_source,
        tmp_path / "s",
    )
    refuses(
        "has none of the known layouts of the data set; expected the folder CUB_200_2011",
        "cub",
        mini_source,
        tmp_path / "s",
    )
    own = prepare("mimi", mini_source, tmp_path / "own")
    assert own.index["notes"] == ["mimi is a data set of your own (did you mean 'mini'?)"]
    (cub_source / "images.txt").write_text("1 Bird/x.jpg")
    refuses("expected lines", "cub", cub_source, tmp_path / "s")
    table = mini_source / "val.csv"
    table.write_text(table.read_text().replace("label", "klass"))
    refuses("must have the columns filename,label", "mini", mini_source, tmp_path / "s")
    table.write_text((mini_source / "train.csv").read_text())
    refuses("Ravi & Larochelle split puts into train", "mini", mini_source, tmp_path / "s")


def test_unwritable_folder(mini_source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FewShotError, match="cannot be written"):
        prepare("mini", mini_source, tmp_path / "file")


def test_damaged_stores_are_reported(mini_source, tmp_path):
    store = prepare("mini", mini_source, tmp_path / "s").path
    whole = (store / "images.npy").read_bytes()
    (store / "images.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FewShotError, match="cannot be read"):
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
