"""ImageStore: one data set as a uint8 memory map and a JSON index.

`images.npy` [n, H, W, 3] holds the images class by class (channels last: the layout in which CPU
convolutions are fastest, and a view makes it CHW). `index.json` names the classes, their splits and
the SHA-256 of the array.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
FORMAT = {"format": "fewshot-store", "version": 1}


def data_dir(given: str | Path | None = None) -> Path:
    """Where stores lie: `given`, else $FSL_HOME/data, else ~/.cache/fsl/data."""
    if given:
        return Path(given)
    home = os.environ.get("FSL_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "fsl") / "data"


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds a store."""
    return (folder / "index.json").exists()


def prepared_names(folder: Path) -> list[str]:
    """The names of the stores below `folder`."""
    return sorted(i.parent.name for i in folder.glob("*/index.json") if NAME.fullmatch(i.parent.name))


@dataclass(frozen=True)
class ImageClass:
    """One class: images `start` .. `start + count - 1` of the store."""

    name: str
    split: str
    start: int
    count: int


@dataclass(frozen=True)
class ImageStore:
    """A prepared data set. images: uint8 [n, H, W, 3], mapped; classes: in the order of the store."""

    path: Path
    name: str
    images: NDArray[np.uint8]
    classes: tuple[ImageClass, ...]
    index: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> ImageStore:
        """Open the store in folder `path`; raises FewShotError where it is damaged or foreign."""
        again = f"prepare it again: fsl data prepare {path.name} --source PATH"
        try:
            index = json.loads((path / "index.json").read_text())
            images = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
            if {k: index[k] for k in FORMAT} != FORMAT:
                raise ValueError("it is of another format")
            classes = tuple(ImageClass(**c) for c in index["classes"])
            _disjoint(classes)
            held = sum(c.count for c in classes)
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != held:
                raise ValueError(f"the index speaks of {held} images, the array is {images.dtype} {images.shape}")
        except Exception as error:  # a damaged file makes json and numpy raise almost anything
            raise FewShotError(f"the image store {path} can not be read ({error}); {again}") from error
        return cls(path, index["name"], images, classes, index)

    def of_split(self, split: str) -> list[ImageClass]:
        """The classes of one split."""
        return [c for c in self.classes if c.split == split]

    @property
    def own_split(self) -> str:
        """What tells two splits of the same images apart: empty for official lists, else a hash of the classes."""
        if "official" in self.index:
            return ""
        classes = [[c.name, c.split, c.count] for c in self.classes]
        return " " + hashlib.sha256(json.dumps(classes).encode()).hexdigest()[:16]

    def holdings(self) -> str:
        """Classes and images of each split in one line, beside the official numbers where they differ."""
        parts = []
        for split in SPLITS:
            held = self.of_split(split)
            images = sum(c.count for c in held)
            part = f"{split} {len(held)} classes, {images} images"
            official = self.index.get("official", {}).get(split)
            if official and official != [len(held), images]:
                part += f" (of {official[0]}, {official[1]})"
            parts.append(part)
        if absent := self.index.get("absent", 0):
            parts.append(f"{absent} listed images absent")
        if skipped := len(self.index.get("skipped", ())):
            parts.append(f"{skipped} broken images left out")
        return "; ".join(parts)


def _disjoint(classes: tuple[ImageClass, ...]) -> None:
    """Raise ValueError unless every class has one split and the classes fill the store one after the other."""
    end = 0
    split_of: dict[str, str] = {}
    for c in classes:
        if c.name in split_of:
            raise ValueError(f"class {c.name} stands in {split_of[c.name]} and in {c.split}")
        if c.split not in SPLITS or c.start != end or c.count < 1:
            raise ValueError(f"class {c.name} is out of order")
        split_of[c.name], end = c.split, end + c.count


def checksum(images: NDArray[np.uint8]) -> str:
    """SHA-256 of the pixels, in the order of the store."""
    digest = hashlib.sha256()
    for start in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000]).data)
    return digest.hexdigest()
