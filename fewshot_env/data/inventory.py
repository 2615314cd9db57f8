"""Take stock of a folder: every image file below it, so that whatever a data set leaves out can be counted."""

from __future__ import annotations

import os
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
        images: image files that can be decoded here, sorted.
        no_decoder: image files that cannot.
        hidden: image files that are hidden, or in hidden and system folders.
        dangling: links to image files that are not there.
        archives: archives, which are not looked into.
        empty: folders without any file.
    """

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
    stock = Stock()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        inside = Path(place).resolve()
        links = [f for f in folders if os.path.islink(os.path.join(place, f))]
        loops = {f for f in links if inside.is_relative_to(Path(place, f).resolve())}  # to a folder that it is in
        folders[:] = sorted(set(folders) - loops) if deep else []
        hidden = any(map(is_system, Path(place).relative_to(folder).parts))
        for name in sorted(files):
            _file(stock, Path(place) / name, hidden or is_system(name))
        if not (folders or files or hidden) and deep and Path(place) != folder:
            stock.empty.append(Path(place))
    stock.images.sort()
    return stock


def _raise(error: OSError) -> None:
    raise error


def _file(stock: Stock, file: Path, hidden: bool) -> None:
    ending = file.suffix.lower()
    known = ending in endings()
    if hidden:
        if (known or ending in NO_DECODER) and not file.name.startswith("._"):  # "._a.jpg" holds what macOS notes
            stock.hidden.append(file)
    elif file.name.lower().endswith(ARCHIVES):
        stock.archives.append(file)
    elif known:
        (stock.images if file.is_file() else stock.dangling).append(file)
    elif ending in NO_DECODER:
        stock.no_decoder.append(file)
    elif ending not in NO_IMAGES and file.is_file() and is_image(file):
        stock.images.append(file)
