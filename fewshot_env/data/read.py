"""Read a data set from what the user has: a folder, a folder inside it, an archive, or a folder of archives."""

from __future__ import annotations

from pathlib import Path

from fewshot_env.data.archive import is_archive, reject_failed_download, unpack
from fewshot_env.data.source import Layout, PrepareOptions, SourceImage, folders_within
from fewshot_env.errors import FewShotError


def read_source(
    source: Path, layouts: tuple[Layout, ...], unpacked: Path, options: PrepareOptions, expected: str
) -> list[SourceImage]:
    """List the images of a data set.

    Args:
        source: a folder or an archive.
        layouts: the layouts to try, in this order.
        unpacked: the folder into which archives are unpacked.
        options: what the user chose.
        expected: a description of the layouts, for messages.

    Raises:
        FewShotError: where `source` is missing, has none of the layouts, or cannot be read.
    """
    if not source.exists():
        raise FewShotError(f"{source} does not exist; expected {expected}")
    try:
        if source.is_dir():
            images = _read(source, layouts, options)
            archives = (
                [] if images is not None else [f for f in sorted(source.iterdir()) if f.is_file() and is_archive(f)]
            )
        else:
            reject_failed_download(source)
            images, archives = None, [source]
            if not is_archive(source):
                raise FewShotError(f"{source} is neither a folder nor a zip, tar or tar.gz file; expected {expected}")
        for archive in archives:
            unpack(archive, unpacked)
        if archives:
            images = _read(unpacked, layouts, options)
    except OSError as error:
        raise FewShotError(
            f"{error.filename or source} cannot be read ({error.strerror}); expected {expected}"
        ) from error
    if images is None:
        raise FewShotError(f"{source} has none of the known layouts of the data set; expected {expected}")
    return images


def _read(folder: Path, layouts: tuple[Layout, ...], options: PrepareOptions) -> list[SourceImage] | None:
    """Read the first layout that fits `folder` or a folder at most two levels below it; None where none fits."""
    for root in folders_within(folder):
        for layout in layouts:
            if layout.fits(root):
                return layout.read(root, options)
    return None
