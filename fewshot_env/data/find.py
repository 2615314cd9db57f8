"""Find a data set in what the user points at: a folder, a folder in it, an archive, or a folder of archives."""

from __future__ import annotations

from pathlib import Path

from fewshot_env.data.archive import is_archive, told_apart, unpack
from fewshot_env.data.source import Layout, SourceImage, Wish, within
from fewshot_env.errors import FewShotError


def read_source(
    source: Path, layouts: tuple[Layout, ...], unpacked: Path, wish: Wish, expected: str
) -> list[SourceImage]:
    """The images of the data set at `source` (archives are unpacked below `unpacked`).

    expected: what should be there, in words. Raises FewShotError where it is not, or can not be read.
    """
    if not source.exists():
        raise FewShotError(f"{source} is not there; expected {expected}")
    try:
        if source.is_dir():
            found = _read(source, layouts, wish)
            archives = (
                [] if found is not None else [f for f in sorted(source.iterdir()) if f.is_file() and is_archive(f)]
            )
        else:
            told_apart(source)
            found, archives = None, [source]
            if not is_archive(source):
                raise FewShotError(f"{source} is neither a folder nor a zip, tar or tar.gz file; expected {expected}")
        for archive in archives:
            unpack(archive, unpacked)
        if archives:
            found = _read(unpacked, layouts, wish)
    except OSError as error:
        raise FewShotError(
            f"{error.filename or source} can not be read ({error.strerror}); expected {expected}"
        ) from error
    if found is None:
        raise FewShotError(f"{source} holds the data set in no form that is known; expected {expected}")
    return found


def _read(folder: Path, layouts: tuple[Layout, ...], wish: Wish) -> list[SourceImage] | None:
    """Read the first layout that fits `folder`, or a folder at most two levels below; None where none fits."""
    for root in within(folder):
        for layout in layouts:
            if layout.fits(root):
                return layout.read(root, wish)
    return None
