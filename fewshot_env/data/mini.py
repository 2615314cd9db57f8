"""The layouts of miniImageNet: images/ with CSV files, class folders, and both kinds of pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_env.data.source import Layout, Listing, PrepareOptions, SourceImage, folders_in, images_in
from fewshot_env.data.splits import split_list
from fewshot_env.data.tables import read_columns, split_of_name
from fewshot_env.data.unpickle import read_pickle
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS


def read_csv(root: Path, _: PrepareOptions) -> list[SourceImage]:
    """Read `images/` and `{train,val,test}.csv` (filename,label): Ravi & Larochelle's layout."""
    sources: list[SourceImage] = []
    for split in SPLITS:
        table = root / f"{split}.csv"
        rows = read_columns(table, ("file", "label"))
        if rows is None:
            raise FewShotError(f"{table} must have the columns filename,label")
        for number, row in enumerate(rows, 2):
            file, wnid = row["file"], row["label"]
            if not file or not wnid:
                raise FewShotError(f"{table}, line {number}: expected a file and its label, found {[file, wnid]}")
            if Path(file).name != file:
                raise FewShotError(
                    f"{table} names the file {file!r}; expected names of files in images/, without folders"
                )
            split_list("mini").require(wnid, split, str(table))
            sources.append(SourceImage(file, wnid, split, root / "images" / file))
    return sources


def read_folders(root: Path, _: PrepareOptions) -> list[SourceImage]:
    """Read `train/`, `val/`, `test/` with a folder of images for each class."""
    sources = []
    for split, folder in _split_folders(root):
        split_list("mini").require(folder.name, split, str(folder.parent))
        sources += [SourceImage(file.name, folder.name, split, file) for file in images_in(folder)]
    return sources


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    """(split, class folder) for every class of train/, val/ and test/; FewShotError where a class is in two of them."""
    classes: dict[str, tuple[str, Path]] = {}
    for part in folders_in(root):
        split = split_of_name(part.name)
        for folder in folders_in(part) if split else ():
            if folder.name in classes:
                raise FewShotError(
                    f"class {folder.name} is in {classes[folder.name][0]} and in {split} of {root}; few-shot splits "
                    "have no class in common"
                )
            classes[folder.name] = (str(split), folder)
    return list(classes.values())


def _has_split_folders(root: Path) -> bool:
    """Whether a folder holds train/ and test/ (under their usual names) with folders in them."""
    return {"train", "test"} <= {split_of_name(f.name) for f in folders_in(root) if folders_in(f)}


def read_cache(root: Path, _: PrepareOptions) -> Listing:
    """Read `mini-imagenet-cache-{train,val,test}.pkl`: image_data [n, 84, 84, 3] and class_dict {wnid: indices}."""
    sources: list[SourceImage] = []
    without: dict[str, int] = {}
    for split in SPLITS:
        file = _pickle(root, "mini-imagenet-cache-{}.pkl", split)
        data = {_text(key): value for key, value in read_pickle(file).items()}
        images, classes = _images(data, "image_data", file), data.get("class_dict")
        if not isinstance(classes, Mapping):
            raise FewShotError(f"{file} holds no class_dict; expected the classes with the indices of their images")
        before = len(sources)
        for wnid, indices in classes.items():
            sources += _of_class(images, _text(wnid), indices, split, file)
        without[f"in no class of {file.name}"] = len(images) - len({s.name for s in sources[before:]})
    return Listing(sources, uncounted=without)


def read_category_split(root: Path, _: PrepareOptions) -> list[SourceImage]:
    """Read `miniImageNet_category_split_*.pickle`: data [n, 84, 84, 3], labels [n] and catname2label {wnid: label}.

    Training images are those of `train_phase_train`, the official 600 of each class.
    """
    sources = []
    for split in SPLITS:
        file = _pickle(root, "miniImageNet_category_split_{}.pickle", split)
        data = {_text(key): value for key, value in read_pickle(file).items()}
        images, names, labels = _images(data, "data", file), data.get("catname2label"), data.get("labels")
        if not isinstance(names, Mapping) or labels is None or len(labels) != len(images):
            raise FewShotError(
                f"{file} holds no labels for its {len(images)} images; expected labels and catname2label"
            )
        of_label = np.asarray(labels)
        for wnid, label in names.items():
            sources += _of_class(images, _text(wnid), np.flatnonzero(of_label == int(label)), split, file)
        if len(sources) != len({s.name for s in sources}) or sum(s.split == split for s in sources) != len(images):
            raise FewShotError(f"{file}: catname2label does not name every label; expected one name per label")
    return sources


def _pickle(root: Path, pattern: str, split: str) -> Path:
    """The pickle of a split; its name depends on who published it."""
    words = {"train": ("train_phase_train", "train"), "val": ("val", "validation"), "test": ("test",)}[split]
    files = [root / pattern.format(word) for word in words]
    for file in files:
        if file.exists():
            return file
    raise FewShotError(
        f"{root} holds no {' or '.join(f.name for f in files)}; expected the pickles of all three splits"
    )


def _images(data: Mapping[str, Any], key: str, file: Path) -> NDArray[np.uint8]:
    """The images of a pickle as uint8 [n, H, W, 3], from whole numbers or floats of [0, 255] or [0, 1], HWC or CHW."""
    images = data.get(key)
    if not isinstance(images, np.ndarray) or images.ndim != 4 or 3 not in (images.shape[3], images.shape[1]):
        shape = getattr(images, "shape", type(images).__name__)
        raise FewShotError(f"{file} holds no images under {key!r} but {shape}; expected [n, 84, 84, 3]")
    images = images if images.shape[3] == 3 else images.transpose(0, 2, 3, 1)
    if images.dtype == np.uint8 or not images.size:
        return images.astype(np.uint8, copy=False)
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 255:
        raise FewShotError(f"{file} holds images from {low:g} to {high:g}; expected numbers in [0, 255], or in [0, 1]")
    scale = 255 if images.dtype.kind == "f" and high <= 1 else 1
    return np.concatenate([np.rint(scale * part).astype(np.uint8) for part in np.array_split(images, 100)])


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _of_class(images: NDArray[np.uint8], wnid: str, indices: Any, split: str, file: Path) -> list[SourceImage]:
    split_list("mini").require(wnid, split, str(file))
    places = np.asarray(indices)
    if places.size and (places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= len(images)):
        raise FewShotError(f"{file}: class {wnid} points outside the {len(images)} images of the file")
    return [SourceImage(f"{wnid}-{i:05d}", wnid, split, images[i]) for i in places.tolist()]


LAYOUTS = (
    Layout(
        "a folder with images/ and train.csv, val.csv, test.csv (filename,label)",
        lambda root: (root / "train.csv").exists(),
        read_csv,
    ),
    Layout(
        "mini-imagenet-cache-{train,val,test}.pkl",
        lambda root: (root / "mini-imagenet-cache-train.pkl").exists(),
        read_cache,
    ),
    Layout(
        "miniImageNet_category_split_*.pickle",
        lambda root: any(root.glob("miniImageNet_category_split_*.pickle")),
        read_category_split,
    ),
    Layout("folders train/, val/, test/ with a folder for each class", _has_split_folders, read_folders),
)
