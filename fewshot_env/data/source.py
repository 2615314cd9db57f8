"""SourceImage: one image to be prepared; Layout: one form in which people have a data set; tools for reading both."""

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
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "TIFF",
    "WEBP",
    "PPM",
)  # decoded by Pillow itself; EPS, for example, is a program


@dataclass(frozen=True)
class SourceImage:
    """One image of a data set, as a layout's reader returns it.

    Attributes:
        name: the name of the image, unique in its class.
        class_name: the name of its class.
        split: "train", "val" or "test".
        pixels: an image file, or uint8 [H, W, 3].
        box: the part to keep, (left, top, right, bottom) in pixels of the original; None keeps the whole image.
    """

    name: str
    class_name: str
    split: str
    pixels: Path | NDArray[np.uint8]
    box: tuple[float, float, float, float] | None = None

    def read(self) -> NDArray[np.uint8]:
        """Decode the image and resize it to 84x84, without keeping its aspect ratio (as the published code does).

        Returns:
            RGB, uint8 [84, 84, 3].

        Raises:
            FewShotError: where the file is not a readable image, or a side has fewer than 8 pixels.
        """
        from PIL import Image

        if isinstance(self.pixels, np.ndarray) and self.pixels.shape == (SIZE, SIZE, 3):
            return self.pixels
        where = self.pixels if isinstance(self.pixels, Path) else self.name
        try:
            if isinstance(self.pixels, np.ndarray):
                return _resized(Image.fromarray(self.pixels), self.box)
            with Image.open(self.pixels, formats=FORMATS) as image:
                return _resized(image.convert("RGB"), self.box)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise FewShotError(
                f"{where} is not a readable image ({error}); replace it, or leave out such images with --skip-broken"
            ) from error


def _resized(image: Image.Image, box: tuple[float, float, float, float] | None) -> NDArray[np.uint8]:
    from PIL import Image

    if box is not None:
        left, top, right, bottom = max(0, int(box[0])), max(0, int(box[1])), math.ceil(box[2]), math.ceil(box[3])
        image = image.crop((left, top, min(image.width, right), min(image.height, bottom)))
    if min(image.size) < MIN_SIDE:
        raise ValueError(f"it has {image.width}x{image.height} pixels, fewer than {MIN_SIDE} on a side")
    return np.asarray(image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class PrepareOptions:
    """What the user chose.

    Attributes:
        split: the name of a published split, a ratio ("60/20/20") or a CSV file; None for the data set's default.
        crop: whether to crop images to their bounding boxes.
    """

    split: str | None = None
    crop: bool = False


@dataclass(frozen=True)
class Layout:
    """One form in which people have a data set.

    Attributes:
        description: what a folder of this layout holds, for messages: "a folder of images for each class".
        fits: whether a folder has this layout.
        read: lists the images in such a folder; it raises FewShotError where something is wrong with them.
    """

    description: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, PrepareOptions], list[SourceImage]]


def folders_in(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted; without hidden ones and those that macOS adds to archives."""
    return sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != "." and f.name != "__MACOSX")


def images_in(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted; judged by their file extension."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_FILES and f.name[0] != "." and f.is_file())


def read_text(file: Path) -> str:
    """Read a text file of a data set; raises FewShotError where it is not UTF-8 text."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FewShotError(f"{file} is not a text file; expected the one that comes with the data set") from error


def read_table(file: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header line as a list of rows; raises FewShotError where it is not CSV."""
    try:
        return list(csv.DictReader(read_text(file).splitlines()))
    except csv.Error as error:
        raise FewShotError(f"{file} is not a CSV file ({error}); expected one line per entry") from error


def folders_within(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Yield `folder`, then the folders inside it, level by level, at most `depth` levels deep."""
    level: Iterable[Path] = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [inner for outer in level for inner in folders_in(outer)]
