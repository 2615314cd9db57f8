"""The images of a prediction: the support, a folder for each class, and new images, files or folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_env.data.inventory import take_stock
from fewshot_env.data.pixels import Colour, decode
from fewshot_env.data.source import folders_in
from fewshot_env.errors import FewShotError

AT_ONCE = 32
"""Images read, and answered, at once."""


@dataclass
class Found:
    """Image files, in order, and what cannot be one of them, with its reason."""

    files: list[Path] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    def add_folder(self, folder: Path) -> None:
        """Everything in a folder and below it."""
        stock = take_stock(folder)
        self.files += stock.images
        self.unreadable |= dict.fromkeys(
            stock.no_decoder, "there is no decoder for it here (heic: pip install 'fewshot[heic]')"
        )
        self.unreadable |= dict.fromkeys(stock.dangling, "it is a link to a file that is not there")
        self.unreadable |= dict.fromkeys(stock.archives, "it is an archive: unpack it")
        self.unreadable |= dict.fromkeys(stock.hidden, "it is hidden: rename it")


def find_images(places: Sequence[Path]) -> Found:
    """The images in these files and folders; raises FewShotError where one is not there, or there is no image."""
    found = Found()
    for place in places:
        if not place.exists():
            raise FewShotError(f"there is no {place}; --images takes files and folders of images")
        if place.is_dir():
            found.add_folder(place)
        else:
            found.files.append(place)
    once: dict[Path, Path] = {}
    for file in found.files:
        once.setdefault(file.absolute(), file)
    found.files = [*once.values()]
    if found.unreadable and not found.files:
        first = next(iter(found.unreadable))
        raise FewShotError(
            f"none of the {len(found.unreadable)} images can be read ({first}: {found.unreadable[first]})"
        )
    if not found.files:
        raise FewShotError(f"there are no images in {', '.join(map(str, places))}; name files or folders of images")
    return found


def find_support(folder: Path) -> dict[str, Found]:
    """The images of each class by its name; raises FewShotError where these are not at least two."""
    if not folder.is_dir():
        raise FewShotError(f"there is no folder {folder}; --support takes one with a folder of images for each class")
    classes = {place.name: Found() for place in folders_in(folder)}
    for name, found in classes.items():
        found.add_folder(folder / name)
    if loose := take_stock(folder, deep=False).images:
        raise FewShotError(
            f"{folder} holds the image {loose[0].name} beside {len(classes)} folders; put every image into the folder "
            "of its class"
        )
    if empty := [name for name, found in classes.items() if not (found.files or found.unreadable)]:
        raise FewShotError(f"{folder / empty[0]} holds no images; add some, or remove the folder")
    if len(classes) < 2:
        raise FewShotError(f"{folder} holds fewer than two folders, but a task needs one for each of its classes")
    return classes


def read_images(
    files: Sequence[Path], size: int, background: Colour, unreadable: dict[Path, str]
) -> Iterator[tuple[list[Path], NDArray[np.uint8]]]:
    """Parts of the images that can be read: their files, and uint8 [n, size, size, 3] as `fsl data prepare` reads them.

    The others are added to `unreadable`.
    """

    def read(file: Path) -> NDArray[np.uint8] | str:
        try:
            return decode(file, None, background, size).rgb
        except FewShotError as error:
            return _why(file, error)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), AT_ONCE):
            part = files[start : start + AT_ONCE]
            pixels = dict(zip(part, pool.map(read, part), strict=True))
            unreadable |= {file: reason for file, reason in pixels.items() if isinstance(reason, str)}
            good = {file: rgb for file, rgb in pixels.items() if not isinstance(rgb, str)}
            if good:
                yield [*good], np.stack([*good.values()])


def _why(file: Path, error: FewShotError) -> str:
    """Why an image cannot be read, without its name again."""
    if file.stat().st_size == 0:
        return "it is empty"
    if file.suffix.lower() in (".heic", ".heif"):
        return "HEIC needs a decoder: pip install 'fewshot[heic]'"
    return "it is no image of a known format" if "cannot identify image file" in str(error) else str(error)
