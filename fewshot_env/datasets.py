"""The image data sets: their layouts, splits and preparation.

Each `read_*` function turns the folder in which people have a data set into SourceImages; `prepare`
writes them into a store.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError, suggest
from fewshot_env.rng import SPLITS
from fewshot_env.store import ImageStore, SourceImage, is_prepared, write_store

SIZE = 84


def read_mini(source: Path) -> list[SourceImage]:
    """miniImageNet as `images/` and `{train,val,test}.csv` (filename,label), Ravi & Larochelle's layout."""
    split_of = {wnid: split for split, wnids in _split_list("mini")["classes"].items() for wnid in wnids}
    found: list[SourceImage] = []
    for split in SPLITS:
        table = source / f"{split}.csv"
        for row in _rows(table):
            file, wnid = row.get("filename"), row.get("label")
            if not file or not wnid:
                raise FewShotError(f"{table} must have the columns filename,label; found {sorted(map(str, row))}")
            if split_of.get(wnid) != split:
                raise FewShotError(
                    f"{table} holds class {wnid}, which the Ravi & Larochelle split puts into "
                    f"{split_of.get(wnid, 'no split')}; use the official CSV files"
                )
            found.append(SourceImage(source / "images" / file, wnid, split))
    return found


def read_cub(source: Path) -> list[SourceImage]:
    """CUB-200-2011 as its own folder (images.txt, classes.txt, images/NNN.Name/), split by Chen et al. 2019.

    Class number NNN - 1 = i goes to train where i is even, to val where i % 4 = 1, to test where i % 4 = 3.
    """
    source = source / "CUB_200_2011" if (source / "CUB_200_2011").is_dir() else source
    found = []
    for line in _text(source / "images.txt").splitlines():
        _, _, file = line.partition(" ")
        class_name, _, _ = file.partition("/")
        number = class_name[:3]
        if not number.isdigit():
            raise FewShotError(f"{source / 'images.txt'}: expected lines '1 001.Name/file.jpg', found {line[:60]!r}")
        split = "train" if (i := int(number) - 1) % 2 == 0 else ("val" if i % 4 == 1 else "test")
        found.append(SourceImage(source / "images" / file, class_name, split))
    return found


@dataclass(frozen=True)
class Dataset:
    """An image data set that `fsl data prepare NAME` knows."""

    name: str
    title: str
    layout: str
    terms: str
    read: Callable[[Path], list[SourceImage]]


DATASETS = {
    d.name: d
    for d in (
        Dataset(
            "mini",
            "miniImageNet",
            "a folder with images/ and train.csv, val.csv, test.csv (filename,label)",
            "ImageNet's terms: non-commercial research only",
            read_mini,
        ),
        Dataset(
            "cub",
            "CUB-200-2011",
            "the folder CUB_200_2011 with images.txt and images/NNN.Name/",
            "non-commercial research; the photographers keep their rights",
            read_cub,
        ),
    )
}


def dataset(name: str) -> Dataset:
    """The data set called `name`; raises FewShotError with the nearest name."""
    if name not in DATASETS:
        raise FewShotError(f"unknown data set {name!r}{suggest(name, DATASETS)}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def open_store(name: str, folder: Path) -> ImageStore:
    """Open the prepared data set `name` below `folder`; says how to get it where it is missing."""
    if not is_prepared(folder / name):
        kind = dataset(name)
        raise FewShotError(
            f"{kind.title} is not prepared in {folder / name}; get {kind.layout}, "
            f"then run: fsl data prepare {name} --source PATH"
        )
    return ImageStore.open(folder / name)


def prepare(
    name: str,
    source: Path,
    folder: Path,
    progress: Callable[[Iterable[SourceImage]], Iterable[SourceImage]] = lambda items: items,
) -> ImageStore:
    """Turn the data set in `source` into the store `folder/name`, 84x84 RGB.

    A partial copy is taken as it is: listed images that are absent are counted in the index ("absent").
    Gray-scale images become RGB. Raises FewShotError, with nothing left behind, for a wrong layout or a broken image.
    """
    kind = dataset(name)
    if not source.is_dir():
        raise FewShotError(f"{source} is not a folder; expected {kind.layout}")
    try:
        sources = kind.read(source)
    except OSError as error:
        raise FewShotError(f"{error.filename} can not be read; expected {kind.layout}") from error
    present = [s for s in sources if s.file.exists()]
    if not present:
        raise FewShotError(f"{source} holds none of the {len(sources)} images that it lists; expected {kind.layout}")
    official = _split_list(name)["official"]
    facts = {"title": kind.title, "terms": kind.terms, "official": official, "resize": "Pillow bicubic, RGB"}
    facts["absent"] = len(sources) - len(present)
    return write_store(folder / name, present, decode, SIZE, facts, progress)


def decode(file: Path) -> NDArray[np.uint8]:
    """Read an image as RGB uint8 [84, 84, 3] (the whole frame, squashed, as in the published code)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
            return np.asarray(rgb if rgb.size == (SIZE, SIZE) else rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise FewShotError(f"{file} is not a readable image ({error}); replace it or take it off the list") from error


def _split_list(name: str) -> dict[str, Any]:
    """The shipped split list of a data set."""
    found: dict[str, Any] = json.loads((files("fewshot_env") / "splits" / f"{name}.json").read_text())
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as error:
        raise FewShotError(f"{file} is not a text file; expected the data set's own") from error


def _rows(table: Path) -> Iterable[dict[str, str]]:
    return csv.DictReader(_text(table).splitlines())
