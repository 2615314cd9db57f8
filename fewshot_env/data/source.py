"""SourceImage: one image to be prepared; Layout: one form in which people have a data set; what its reader lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_env.data.inventory import Stock, is_system, take_stock
from fewshot_env.data.pixels import SIZE, WHITE, Box, Colour, Decoded, decode
from fewshot_env.errors import FewShotError


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
    box: Box | None = None

    def decode(self, background: Colour = WHITE, size: int = SIZE) -> Decoded:
        """Read the image (fewshot_env.data.pixels.decode); raises FewShotError, with its name, where that fails."""
        try:
            return decode(self.pixels, self.box, background, size)
        except FewShotError as error:
            where = self.pixels if isinstance(self.pixels, Path) else self.name
            raise FewShotError(
                f"{where} is not a readable image ({error}); replace it, or leave out such images with --skip-broken"
            ) from error

    def read(self) -> NDArray[np.uint8]:
        """The pixels of the image on white, RGB, uint8 [84, 84, 3]; raises as `decode`."""
        return self.decode().rgb


@dataclass(frozen=True)
class PrepareOptions:
    """What the user chose.

    Attributes:
        split: the name of a published split, a ratio ("60/20/20"), "test" (all classes) or a CSV file; None for the
            data set's default.
        crop: whether to crop images to their bounding boxes.
        classes: of nested class folders: "leaf" or "top" (fewshot_env.data.folders).
        background: what transparent parts of images are laid over, a colour.
        size: the side of the prepared images, in pixels.
    """

    split: str | None = None
    crop: bool = False
    classes: str = "leaf"
    background: str = "white"
    size: int = SIZE


@dataclass(frozen=True)
class Listing:
    """What a reader lists, and what it leaves out with its reason.

    Attributes:
        images: the images of the data set.
        left_out: why image files below the source are not in it, by file: "not listed in train.csv".
        uncounted: the same for what is not a file (images in a pickle): how many, by reason.
        notes: what else the user should be told, one line each.
        stock: what the reader found below its folder, where it looked; else it is looked for afterwards.
    """

    images: list[SourceImage]
    left_out: Mapping[Path, str] = field(default_factory=dict)
    uncounted: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stock: Stock | None = None


@dataclass(frozen=True)
class Layout:
    """One form in which people have a data set.

    Attributes:
        description: what a folder of this layout holds, for messages: "a folder of images for each class".
        fits: whether a folder has this layout.
        read: lists the images in such a folder, as a list or a Listing; it raises FewShotError where something is
            wrong with them.
    """

    description: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, PrepareOptions], list[SourceImage] | Listing]


def folders_in(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted; without hidden ones and those that systems add (__MACOSX, @eaDir, ...)."""
    return sorted(f for f in folder.iterdir() if f.is_dir() and not is_system(f.name))


def images_in(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted."""
    return take_stock(folder, deep=False).images


def read_text(file: Path) -> str:
    """Read a text file of a data set; raises FewShotError where it is not UTF-8 text."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FewShotError(f"{file} is not a text file; expected the one that comes with the data set") from error


def folders_within(folder: Path, depth: int = 2) -> Iterator[list[Path]]:
    """Yield [`folder`], then the list of the folders inside it, level by level, at most `depth` levels deep."""
    level: Iterable[Path] = [folder]
    for _ in range(depth + 1):
        yield list(level)
        level = [inner for outer in level for inner in folders_in(outer)]
