"""SourceImage: one image to be stored, wherever its pixels lie; Layout: one form in which people have a data set."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError

if TYPE_CHECKING:
    from PIL import Image

SIZE = 84
MIN_SIDE = 8
IMAGE_FILES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # what Pillow decodes itself: EPS, say, is a program


@dataclass(frozen=True)
class SourceImage:
    """One image: its name, class and split, and its pixels as an image file or as uint8 [H, W, 3].

    box is (left, top, right, bottom) in pixels of the original: what to keep of the frame, or None for all of it.
    """

    name: str
    class_name: str
    split: str
    pixels: Path | NDArray[np.uint8]
    box: tuple[float, float, float, float] | None = None

    def read(self) -> NDArray[np.uint8]:
        """Decode as RGB uint8 [84, 84, 3]: the whole frame (or box) squashed, as in the published code.

        Raises FewShotError for a file that is no image, and for images with a side below 8 pixels.
        """
        from PIL import Image

        if isinstance(self.pixels, np.ndarray) and self.pixels.shape == (SIZE, SIZE, 3):
            return self.pixels
        where = self.pixels if isinstance(self.pixels, Path) else self.name
        try:
            if isinstance(self.pixels, np.ndarray):
                return _square(Image.fromarray(self.pixels), self.box)
            with Image.open(self.pixels, formats=FORMATS) as image:
                return _square(image.convert("RGB"), self.box)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise FewShotError(
                f"{where} is not a readable image ({error}); replace it, or leave out all such with --skip-broken"
            ) from error


def _square(image: Image.Image, box: tuple[float, float, float, float] | None) -> NDArray[np.uint8]:
    from PIL import Image

    if box is not None:
        left, top, right, bottom = max(0, int(box[0])), max(0, int(box[1])), math.ceil(box[2]), math.ceil(box[3])
        image = image.crop((left, top, min(image.width, right), min(image.height, bottom)))
    if min(image.size) < MIN_SIDE:
        raise ValueError(f"it has {image.width}x{image.height} pixels, fewer than {MIN_SIDE} on a side")
    return np.asarray(image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Wish:
    """What the user chose: the name of a split, a ratio or a split file (None: the usual), and crops to boxes."""

    split: str | None = None
    crop: bool = False


@dataclass(frozen=True)
class Layout:
    """One form of a data set: its description, whether a folder has it, and its reader."""

    words: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Wish], list[SourceImage]]


def folders_in(folder: Path) -> list[Path]:
    """The folders in `folder` by name, without hidden ones and what macOS packs into archives."""
    return sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != "." and f.name != "__MACOSX")


def images_in(folder: Path) -> list[Path]:
    """The image files in `folder`, by name and ending."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_FILES and f.name[0] != "." and f.is_file())


def read_text(file: Path) -> str:
    """The text of a list that belongs to a data set; raises FewShotError where it is no text."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FewShotError(f"{file} is not a text file; expected the data set's own") from error


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its first line's columns; raises FewShotError where it is none."""
    try:
        return list(csv.DictReader(read_text(file).splitlines()))
    except csv.Error as error:
        raise FewShotError(f"{file} is not a CSV file ({error}); expected a line for each entry") from error


def within(folder: Path, depth: int = 2) -> Iterator[Path]:
    """`folder`, then the folders in it, level by level: where a data set may begin."""
    level: Iterable[Path] = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [inner for outer in level for inner in folders_in(outer)]
