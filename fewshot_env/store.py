"""ImageStore: one data set as a uint8 memory map and a JSON index.

`images.npy` [n, H, W, 3] holds the images class by class (channels last: the layout in which CPU
convolutions are fastest, and a view makes it CHW). `index.json` names the classes, their splits and
the SHA-256 of the array. A store is written aside and renamed, so that it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS

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
            held = sum(c.count for c in classes)
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != held:
                raise ValueError(f"the index speaks of {held} images, the array is {images.dtype} {images.shape}")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise FewShotError(f"the image store {path} can not be read ({error}); {again}") from error
        return cls(path, index["name"], images, classes, index)

    def of_split(self, split: str) -> list[ImageClass]:
        """The classes of one split."""
        return [c for c in self.classes if c.split == split]

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
        absent = self.index.get("absent", 0)
        return "; ".join(parts) + (f"; {absent} listed images absent" if absent else "")


@dataclass(frozen=True)
class SourceImage:
    """One image to be stored: where its file lies, and its class and split."""

    file: Path
    class_name: str
    split: str


def write_store(
    target: Path,
    sources: Sequence[SourceImage],
    decode: Callable[[Path], NDArray[np.uint8]],
    size: int,
    facts: dict[str, Any],
    progress: Callable[[Iterable[SourceImage]], Iterable[SourceImage]],
) -> ImageStore:
    """Write `sources` as the store `target` (replacing an older one) and open it.

    decode gives [size, size, 3]; facts go into the index as they are. Whatever goes wrong, `target` is
    left as it was and nothing else is left behind.
    """
    order = sorted(sources, key=lambda s: (SPLITS.index(s.split), s.class_name, s.file.name))
    aside = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}.partial"
    try:
        aside.mkdir(parents=True)
        shape = (len(order), size, size, 3)
        images = np.lib.format.open_memmap(aside / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        classes: dict[tuple[str, str], ImageClass] = {}
        for i, source in enumerate(progress(order)):
            images[i] = decode(source.file)
            key = (source.split, source.class_name)
            known = classes.get(key, ImageClass(source.class_name, source.split, i, 0))
            classes[key] = ImageClass(known.name, known.split, known.start, known.count + 1)
        images.flush()
        index = FORMAT | {"name": target.name, "sha256": checksum(images)} | facts
        index["classes"] = [vars(c) for c in classes.values()]
        index["files"] = [source.file.name for source in order]
        del images
        (aside / "index.json").write_text(json.dumps(index))
        _replace(aside, target)
    except OSError as error:
        raise FewShotError(
            f"the image store {target} can not be written ({error}); free space or choose another --data-dir"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return ImageStore.open(target)


def checksum(images: NDArray[np.uint8]) -> str:
    """SHA-256 of the pixels, in the order of the store."""
    digest = hashlib.sha256()
    for start in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000]).data)
    return digest.hexdigest()


def _replace(aside: Path, target: Path) -> None:
    """Put the finished folder `aside` in the place of `target`."""
    old = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}.old"
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
