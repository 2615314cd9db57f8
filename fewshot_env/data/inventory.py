"""Take stock of a folder: every image file below it, so that whatever a data set leaves out can be counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_env.data.pixels import NO_DECODER, endings, is_image

SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information"})
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".gz", ".7z", ".rar")
NO_IMAGES = frozenset({
    ".csv", ".tsv", ".txt", ".md", ".json", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".py", ".ipynb", ".m", ".mat", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5", ".hdf5", ".db",
    ".ini", ".log", ".sh", ".mp4", ".mov", ".avi", ".mp3", ".wav", ".ds_store", ".lock", *ARCHIVES,
})  # fmt: skip
"""File endings of what is no image, so that it need not be opened to see."""


@dataclass
class Stock:
    """The files below a folder that are images, or may be.

    Attributes:
        folder: that folder.
        images: image files that can be decoded here, sorted.
        no_decoder: image files that cannot.
        hidden: image files that are hidden, or in hidden and system folders.
        dangling: links to image files that are not there.
        archives: archives, which are not looked into.
        empty: folders without any file.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    no_decoder: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or one that an operating system or a network drive adds."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def take_stock(folder: Path, deep: bool = True) -> Stock:
    """List what is in `folder`, and, where `deep`, below it; links to folders are followed, but not in circles."""
    stock = Stock(folder)
    for place, files, hidden, is_empty in _places(folder):
        for name in files:
            if kind := _kind(place / name, hidden or is_system(name)):
                getattr(stock, kind).append(place / name)
        if is_empty and not hidden and place != folder:
            stock.empty.append(place)
        if not deep:
            break
    stock.images.sort()
    return stock


def has_images(folder: Path) -> bool:
    """Whether there is an image that can be decoded in `folder` or below it; looks no further than to the first."""
    return any(
        _kind(place / name, hidden or is_system(name)) == "images"
        for place, files, hidden, _ in _places(folder)
        for name in files
    )


def _places(folder: Path) -> Iterator[tuple[Path, list[str], bool, bool]]:
    """`folder` and the folders below it: their files, sorted, whether they are hidden, and whether they are empty."""
    for name, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        place = Path(name)
        links = [f for f in folders if (place / f).is_symlink()]
        inside = place.resolve() if links else place
        loops = {f for f in links if inside.is_relative_to((place / f).resolve())}  # to a folder that it is in
        is_empty = not (set(folders) - loops or files)
        folders[:] = sorted(set(folders) - loops)
        yield place, sorted(files), any(map(is_system, place.relative_to(folder).parts)), is_empty


def _raise(error: OSError) -> None:
    raise error


def _kind(file: Path, hidden: bool) -> str | None:
    """Where a file belongs in a Stock; None for what is no image and no archive."""
    ending = file.suffix.lower()
    known = ending in endings()
    if hidden:
        is_note = file.name.startswith("._")  # "._a.jpg" holds what macOS notes
        return "hidden" if (known or ending in NO_DECODER) and not is_note else None
    if file.name.lower().endswith(ARCHIVES):
        return "archives"
    if known:
        return "images" if file.is_file() else "dangling"
    if ending in NO_DECODER:
        return "no_decoder"
    return "images" if ending not in NO_IMAGES and file.is_file() and is_image(file) else None
