"""One store from every form in which people have a data set."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from fewshot_env.data.omniglot import PARTS
from fewshot_env.data.source import PrepareOptions, SourceImage
from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from fewshot_env.rng import SPLITS
from tests.helpers.images import as_folders, assert_same_images, packed, write_cub, write_mini, write_omniglot


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """The CSV form, its store, and images [n, 84, 84, 3] with class names for each split."""
    root = tmp_path_factory.mktemp("mini")
    source = write_mini(root / "mini-imagenet", n_images=3)
    store = prepare("mini", source, root / "stores")
    arrays = {}
    for split in SPLITS:
        classes = store.of_split(split)
        first = classes[0].start
        images = np.array(store.images[first : classes[-1].start + classes[-1].count])
        arrays[split] = (images, {c.name: list(range(c.start - first, c.start - first + c.count)) for c in classes})
    return source, store, arrays


@pytest.mark.parametrize("form", ["csv", "folders", "validation"])
@pytest.mark.parametrize("pack", ["", "a.zip", "a.tar", "a.tar.gz", "a.tgz"])
@pytest.mark.parametrize("top", ["", "data/mini-imagenet/"])
def test_mini_as_files(form, pack, top, mini, tmp_path):
    source, store, _ = mini
    if form != "csv":
        source = as_folders(source, tmp_path / "folders")
    if form == "validation":
        (source / "val").rename(source / "validation")
    if top and not pack:
        source = shutil.copytree(source, tmp_path / "outer" / top).parent.parent
    if pack:
        source = packed(source, tmp_path / pack, top)
    assert_same_images(store, prepare("mini", source, tmp_path / "s"))
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [".mini.lock", "mini"]


def test_a_folder_that_holds_the_archive(mini, tmp_path):
    (tmp_path / "downloads").mkdir()
    packed(mini[0], tmp_path / "downloads" / "mini-imagenet.zip")
    assert_same_images(mini[1], prepare("mini", tmp_path / "downloads", tmp_path / "s"))


@pytest.mark.parametrize("val", ["val", "validation"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_mini_as_cache_pickles(val, protocol, mini, tmp_path):
    _, store, arrays = mini
    folder = tmp_path / "pickles"
    folder.mkdir()
    for split, (images, classes) in arrays.items():
        name = f"mini-imagenet-cache-{val if split == 'val' else split}.pkl"
        (folder / name).write_bytes(pickle.dumps({"image_data": images, "class_dict": classes}, protocol))
    found = prepare("mini", folder, tmp_path / "s")
    assert found.index["sha256"] == store.index["sha256"]
    assert found.classes == store.classes
    assert found.index["files"][0] == f"{found.classes[0].name}-00000"
    in_tar = prepare("mini", packed(folder, tmp_path / "mini-imagenet.tar.gz"), tmp_path / "t")
    assert_same_images(found, in_tar)


@pytest.mark.parametrize("kind", [list, np.array, tuple])
def test_mini_as_category_split_pickles(kind, mini, tmp_path):
    _, store, arrays = mini
    folder = tmp_path / "pickles"
    folder.mkdir()
    for split, (images, classes) in arrays.items():
        labels = np.zeros(len(images), np.int64)
        for label, indices in enumerate(classes.values()):
            labels[indices] = label + 64
        data = {"data": images, "labels": kind(labels), "catname2label": {w: 64 + i for i, w in enumerate(classes)}}
        phase = "train_phase_train" if split == "train" else split
        file = folder / f"miniImageNet_category_split_{phase}.pickle"
        file.write_bytes(pickle.dumps(data, 2))
    (folder / "miniImageNet_category_split_train_phase_val.pickle").write_bytes(b"other images of the train classes")
    found = prepare("mini", folder, tmp_path / "s")
    assert found.index["sha256"] == store.index["sha256"]
    assert found.classes == store.classes


def test_wrong_pickles_are_reported(mini, tmp_path):
    images, classes = mini[2]["train"]
    file = tmp_path / "mini-imagenet-cache-train.pkl"
    wnid = next(iter(classes))
    for data, match in (
        ([1, 2], "holds a list, but must hold a dictionary"),
        ({"class_dict": classes}, "holds no images under 'image_data'"),
        ({"image_data": images[..., :2], "class_dict": classes}, r"'image_data' but \(24, 84, 84, 2\)"),
        ({"image_data": images - np.float32(9), "class_dict": classes}, r"from -9 to .* in \[0, 255\], or in \[0, 1\]"),
        ({"image_data": images}, "holds no class_dict"),
        ({"image_data": images, "class_dict": {wnid: [len(images)]}}, "points outside the 24 images"),
        ({"image_data": images, "class_dict": {"n99": [0]}}, "holds class n99, which the Ravi & Larochelle split"),
        ({"image_data": images, "class_dict": classes}, "holds no mini-imagenet-cache-val.pkl or"),
    ):
        file.write_bytes(pickle.dumps(data))
        with pytest.raises(FewShotError, match=match):
            prepare("mini", tmp_path, tmp_path / "s")
    file.unlink()
    other = tmp_path / "miniImageNet_category_split_train_phase_train.pickle"
    labels = [0] * len(images)
    for data, match in (
        ({"data": images, "labels": labels[1:], "catname2label": {wnid: 0}}, "holds no labels for its 24 images"),
        ({"data": images, "labels": labels, "catname2label": {wnid: 1}}, "does not name every label"),
    ):
        other.write_bytes(pickle.dumps(data))
        with pytest.raises(FewShotError, match=match):
            prepare("mini", tmp_path, tmp_path / "s")


def test_a_within_class_split_is_no_few_shot_split(mini, tmp_path):
    source = as_folders(mini[0], tmp_path / "folders")
    wnid = next((source / "train").iterdir()).name
    shutil.copytree(source / "train" / wnid, source / "test" / wnid)
    with pytest.raises(FewShotError, match=f"class {wnid} is in .* few-shot splits have no class in common"):
        prepare("mini", source, tmp_path / "s")


def test_cub_as_an_archive_with_its_stray_file(tmp_path):
    source = write_cub(tmp_path / "CUB_200_2011", n_classes=8)
    (tmp_path / "whole").mkdir()
    shutil.copytree(source, tmp_path / "whole" / "CUB_200_2011")
    (tmp_path / "whole" / "attributes.txt").write_text("1 has_bill_shape::curved\n")
    store = prepare("cub", source, tmp_path / "s")
    assert_same_images(store, prepare("cub", packed(tmp_path / "whole", tmp_path / "CUB_200_2011.tgz"), tmp_path / "t"))


def test_splits_of_cub(tmp_path):
    source = write_cub(tmp_path / "cub", n_classes=60)
    meta = split_list("cub-meta-dataset")
    store = prepare("cub", source, tmp_path / "s", options=PrepareOptions(split="meta-dataset"))
    assert {c.name: c.split for c in store.classes} == {c.name: meta.split_of[c.name] for c in store.classes}
    assert store.index["official"] == {"train": [140, 8239], "val": [30, 1779], "test": [30, 1770]}
    dropped = sorted(split_list("cub-meta-dataset-no-imagenet").dropped)
    assert len(dropped) == 43
    table = source / "images.txt"
    number, first = table.read_text().splitlines()[0].split()
    (source / "images" / first).rename((source / "images" / first).with_name(dropped[0]))
    table.write_text(
        table.read_text().replace(f"{number} {first}\n", f"{number} {first.split('/')[0]}/{dropped[0]}\n", 1)
    )
    fewer = prepare("cub", source, tmp_path / "s", options=PrepareOptions(split="meta-dataset-no-imagenet"))
    assert len(fewer.images) == len(store.images) - 1
    assert dropped[0] not in fewer.index["files"]
    with pytest.raises(FewShotError, match="has the splits chen, meta-dataset, meta-dataset-no-imagenet"):
        prepare("cub", source, tmp_path / "s", options=PrepareOptions(split="ravi"))


def test_boxes_of_cub(tmp_path):
    source = write_cub(tmp_path / "cub", n_classes=4)
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[20:40, 30:70] = 255
    file = source / "images" / "001.Black_footed_Albatross" / "b0.jpg"
    Image.fromarray(frame).save(file.with_suffix(".png"))
    file.with_suffix(".png").rename(file)
    table = source / "bounding_boxes.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(["1 30.0 20.0 40.0 20.0", *lines[1:]]))
    whole, cropped = (
        prepare("cub", source, tmp_path / "s", options=PrepareOptions(crop=c)).images[0] for c in (False, True)
    )
    assert whole.mean() == pytest.approx(255 * 20 * 40 / 4800, abs=1)
    assert (cropped == 255).all()
    table.write_text("\n".join(lines[1:]))
    with pytest.raises(FewShotError, match="has no box for image 1"):
        prepare("cub", source, tmp_path / "s", options=PrepareOptions(crop=True))
    table.write_text("1 2 3\n")
    with pytest.raises(FewShotError, match=r"bounding_boxes.txt: expected lines '1 60\.0"):
        prepare("cub", source, tmp_path / "s", options=PrepareOptions(crop=True))
    with pytest.raises(FewShotError, match="miniImageNet has no bounding boxes"):
        prepare("mini", source, tmp_path / "s", options=PrepareOptions(crop=True))


def test_a_box_that_leaves_the_frame_is_cut():
    frame = np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)
    inside = SourceImage("x", "c", "train", frame, (20.0, 20.0, 40.0, 40.0)).read()
    beyond = SourceImage("x", "c", "train", frame, (20.0, 20.0, 90.0, 41.0)).read()
    assert (inside == beyond).all()


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
    root = tmp_path_factory.mktemp("omniglot")
    source = write_omniglot(root / "omniglot")
    return source, prepare("omniglot", source, root / "stores")


def test_omniglot_is_split_by_alphabet(omniglot):
    source, store = omniglot
    assert {s: len(store.of_split(s)) for s in SPLITS} == {"train": 8, "val": 8, "test": 8}
    evaluation = {f.name for f in (source / "images_evaluation").iterdir()}
    assert {c.name.split("/")[0] for c in store.of_split("test")} == evaluation
    assert not {c.name.split("/")[0] for c in store.of_split("val")} & {
        c.name.split("/")[0] for c in store.of_split("train")
    }
    assert store.images.shape == (120, 84, 84, 3)
    assert (store.images[..., 0] == store.images[..., 2]).all()
    numbers = split_list("omniglot").official
    assert [sum(n[i] for n in numbers.values()) for i in (0, 1)] == [1623, 32460]


@pytest.mark.parametrize("form", ["zips", "torchvision", "one zip"])
def test_forms_of_omniglot(form, omniglot, tmp_path):
    source, store = omniglot
    folder = tmp_path / "o" / "omniglot-py"
    folder.mkdir(parents=True)
    if form == "torchvision":  # it keeps the zip files and what it unpacked
        shutil.copytree(source, folder, dirs_exist_ok=True)
    for part in PARTS:
        packed(source / part, folder / f"{part}.zip", f"{part}/")
    given = (
        packed(source, tmp_path / "all.zip")
        if form == "one zip"
        else folder.parent
        if form == "torchvision"
        else folder
    )
    assert_same_images(store, prepare("omniglot", given, tmp_path / "s"))


def test_omniglot_as_torchvision_reads_it(omniglot, tmp_path, monkeypatch):
    from torchvision.datasets import Omniglot
    from torchvision.datasets.utils import calculate_md5

    source, store = omniglot
    root = tmp_path / "omniglot-py"
    shutil.copytree(source, root)
    sums = {part: calculate_md5(packed(source / part, root / f"{part}.zip", f"{part}/")) for part in PARTS}
    monkeypatch.setattr(Omniglot, "zips_md5", sums)
    seen = 0
    by_name = {c.name: c for c in store.classes}
    for background in (True, False):
        for image, label in (theirs := Omniglot(tmp_path, background=background)):
            ours = by_name[theirs._characters[label]]
            file, _ = theirs._flat_character_images[seen - (0 if background else 80)]
            place = ours.start + store.index["files"][ours.start : ours.start + ours.count].index(file)
            again = SourceImage("", "", "", np.asarray(image.convert("RGB"))).read()
            assert (store.images[place] == again).all()
            seen += 1
    assert seen == len(store.images)


def test_a_csv_field_beyond_what_python_reads(tmp_path):
    source = write_mini(tmp_path / "mini", n_images=1)
    with (source / "val.csv").open("a") as stream:
        stream.write("x" * 200_000 + ".jpg,n01\n")
    with pytest.raises(FewShotError, match="is not a CSV file"):
        prepare("mini", source, tmp_path / "s")
