"""ImageStore: a prepared data set, which is a folder with a uint8 memory map and a JSON index.

`images.npy` [n, H, W, 3] holds the images class by class (channels last: the layout in which CPU convolutions are
fastest; `permute` gives CHW without a copy). `index.json` holds the classes, their splits and the SHA-256 of the array.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fewshot_env.errors import FewShotError, command
from fewshot_env.rng import SPLITS
from fewshot_env.settings import fit

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
FORMAT = {"format": "fewshot-store", "version": 1}
USUAL_SIZE = 84
SIZES = range(16, 513)


def data_dir(given: str | Path | None = None) -> Path:
    """The folder of the prepared data sets: `given`, else $FSL_HOME/data, else ~/.cache/fsl/data.

    A user without a home (in some containers) has them in .fsl/data of the current folder.
    """
    if given:
        return expanded(given)
    if home := os.environ.get("FSL_HOME"):
        return expanded(home) / "data"
    try:
        return Path.home() / ".cache" / "fsl" / "data"
    except RuntimeError:
        return Path(".fsl", "data").absolute()


def expanded(path: str | Path) -> Path:
    """The path with ~ as the user's home, which a shell does not do in --log-dir=~/runs."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def sized(name: str, size: int) -> str:
    """The name of a data set whose images have this size: 84x84 is not said."""
    return name if size == USUAL_SIZE else f"{name}-{size}"


def prepare_command(folder: Path, size: int | None = None) -> str:
    """The command that prepares the data set whose folder this is, from the user's PATH; size: another than it has."""
    name, own = folder.name, USUAL_SIZE
    with suppress(Exception):  # it is missing or damaged
        index = json.loads((folder / "index.json").read_text())
        name, own = str(index["prepared_as"]), int(index["size"])
    size = size or own
    chosen = [] if size == USUAL_SIZE else ["--size", str(size)]
    return command("fsl", "data", "prepare", name, "--source", "PATH", *chosen, *_where(folder))


def _where(folder: Path) -> list[str | Path]:
    """The option that says where the data set in `folder` is, if it must be said."""
    return [] if folder.parent == data_dir() else ["--data-dir", folder.parent]


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds a prepared data set."""
    return os.path.exists(folder / "index.json")


def prepared_names(folder: Path) -> list[str]:
    """The names of the prepared data sets in `folder`, sorted."""
    try:
        return sorted(f.name for f in folder.iterdir() if NAME.fullmatch(f.name) and is_prepared(f))
    except OSError:  # there is none, or it is another user's: the built-in environments do not need it
        return []


@dataclass(frozen=True)
class ImageClass:
    """One class: images `start` .. `start + count - 1` of the prepared data set."""

    name: str
    split: str
    start: int
    count: int


class _Index(BaseModel):
    """The schema of index.json: the fields that are required, and those that may be missing."""

    name: str
    sha256: str
    classes: tuple[ImageClass, ...]
    title: str = ""
    official: dict[str, list[int]] = {}
    absent: int = 0
    skipped: list[str] = []
    constant: list[str] = []
    several_frames: int = 0
    across_splits: int = 0
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageStore:
    """A prepared data set.

    Attributes:
        path: its folder.
        name: its name.
        images: uint8 [n, H, W, 3], a read-only memory map.
        classes: the classes, in the order of `images`.
        index: the content of index.json: title, terms, sha256, official numbers, names of the files, and more.

    Example:
        >>> birds = ImageStore.open(data_dir() / "my-birds")
        >>> print(birds.holdings())
    """

    path: Path
    name: str
    images: NDArray[np.uint8]
    classes: tuple[ImageClass, ...]
    index: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> ImageStore:
        """Open a prepared data set.

        Args:
            path: its folder.

        Raises:
            FewShotError: where a file is missing or damaged, or was not written by `prepare`.
        """
        again = f"prepare it again: {prepare_command(path)}"
        try:
            index = json.loads((path / "index.json").read_text())
            images = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
            if not isinstance(index, dict) or {k: index.get(k) for k in FORMAT} != FORMAT:
                raise ValueError("it has another format")
            classes = fit(_Index, index).classes
            _check_order(classes)
            held = sum(c.count for c in classes)
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != held:
                raise ValueError(f"the index lists {held} images, but the array is {images.dtype} {images.shape}")
        except Exception as error:  # a damaged file makes json and numpy raise almost anything
            raise FewShotError(f"the prepared data set {path} cannot be read ({error}); {again}") from error
        return cls(path, index["name"], images, classes, index)

    def of_split(self, split: str) -> list[ImageClass]:
        """The classes of one split."""
        return [c for c in self.classes if c.split == split]

    @property
    def split_key(self) -> str:
        """Part of the fingerprint: a hash of the classes and their splits, or "" where the split is a published one."""
        if "official" in self.index:
            return ""
        classes = [[c.name, c.split, c.count] for c in self.classes]
        return " " + hashlib.sha256(json.dumps(classes).encode()).hexdigest()[:16]

    def holdings(self) -> str:
        """The numbers of classes and images of each split in one line, with the official numbers where they differ."""
        parts = []
        for split in SPLITS:
            held = self.of_split(split)
            images = sum(c.count for c in held)
            classes = f"{len(held)} class{'' if len(held) == 1 else 'es'}"
            parts.append(f"{split} {classes}, {images} images{self.beside_official(split)}")
        return "; ".join([*parts, *self.account()])

    def beside_official(self, split: str) -> str:
        """Like " (of 64, 38400)", the published numbers of classes and images; "" where they are those it holds."""
        held = self.of_split(split)
        official = self.index.get("official", {}).get(split)
        differs = official and official != [len(held), sum(c.count for c in held)]
        return f" (of {official[0]}, {official[1]})" if differs else ""

    def account(self) -> list[str]:
        """What became of the image files that are not in the data set, or are so in part; one phrase each."""
        index, lines = self.index, []
        if absent := index.get("absent", 0):
            lines.append(f"{absent} listed images absent")
        reasons = dict(index.get("left_out", {}))
        if skipped := len(index.get("skipped", ())):
            reasons["unreadable or tiny (--skip-broken)"] = skipped
        if reasons:
            total, by_count = sum(reasons.values()), sorted(reasons.items(), key=lambda item: -item[1])
            each = ", ".join(f"{count} {reason}" for reason, count in by_count)
            lines.append(f"left out: {total} {'file' if total == 1 else 'files'}: {each}")
        if frames := index.get("several_frames", 0):
            lines.append(f"{frames} with several frames, of which the first was taken")
        if across := index.get("across_splits", 0):
            check = command("fsl", "data", "check", self.path.name, *_where(self.path))
            lines.append(f"{across} groups of identical images in two splits ({check} lists them)")
        if constant := index.get("constant", ()):
            names = ", ".join(constant[:3]) + (", ..." if len(constant) > 3 else "")
            lines.append(f"{len(constant)} constant or nearly so ({names})")
        return lines


def _check_order(classes: tuple[ImageClass, ...]) -> None:
    """Raise ValueError unless every class is in one split and the classes follow one another without gaps."""
    end = 0
    split_of: dict[str, str] = {}
    for c in classes:
        if c.name in split_of:
            raise ValueError(f"class {c.name} is in {split_of[c.name]} and in {c.split}")
        if c.split not in SPLITS or c.start != end or c.count < 1:
            raise ValueError(f"class {c.name} is out of order")
        split_of[c.name], end = c.split, end + c.count


def pixels_key(image: NDArray[np.uint8]) -> bytes:
    """Sixteen bytes that only images with the same pixels [H, W, 3] share."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def checksum(images: NDArray[np.uint8]) -> str:
    """SHA-256 of the pixels, uint8 [n, H, W, 3], in their order."""
    digest = hashlib.sha256()
    for start in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000]).data)
    return digest.hexdigest()
