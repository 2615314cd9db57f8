"""Read a data set from what the user has: a folder, a folder inside it, an archive, or a folder of archives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os.path import exists
from pathlib import Path

from fewshot_env.data.archive import Budget, is_archive, reject_failed_download, unpack
from fewshot_env.data.inventory import take_stock
from fewshot_env.data.source import Layout, Listing, PrepareOptions, SourceImage, folders_within
from fewshot_env.errors import FewShotError


@dataclass(frozen=True)
class Account:
    """Every image file below the source: in the data set, or left out for a reason.

    Attributes:
        images: the images of the data set.
        left_out: how many image files are not in it, by reason: {"in second/, beside the data set": 72}.
        notes: what else the user should be told, one line each.
    """

    images: list[SourceImage]
    left_out: dict[str, int]
    notes: tuple[str, ...]


def read_source(
    source: Path, layouts: tuple[Layout, ...], unpacked: Path, options: PrepareOptions, expected: str
) -> Account:
    """List the images of a data set, and account for the image files that are not in it.

    Archives are unpacked where `source` is one, or is a folder that has none of the layouts and holds archives; what
    they hold may be archives again, once.

    Args:
        source: a folder or an archive.
        layouts: the layouts to try, in this order.
        unpacked: the folder into which archives are unpacked.
        options: what the user chose.
        expected: a description of the layouts, for messages.

    Raises:
        FewShotError: where `source` is missing, has none of the layouts or several of them, or cannot be read.
    """
    if not source.exists():
        raise FewShotError(f"{source} does not exist; expected {expected}")
    budget, folder = Budget(), source
    try:
        if source.is_dir():
            listing = _read(source, layouts, options)
            archives = [] if listing is not None else _archives(source.iterdir())
        else:
            reject_failed_download(source)
            listing, archives = None, [source]
            if not is_archive(source):
                raise FewShotError(f"{source} is neither a folder nor a zip, tar or tar.gz file; expected {expected}")
        for _ in range(2):
            if listing is None and archives:
                for archive, into in _places(archives, unpacked):
                    unpack(archive, into, budget)
                    if archive.is_relative_to(unpacked):
                        archive.unlink()
                    _lift(into)
                folder = unpacked
                listing = _read(unpacked, layouts, options)
                archives = _archives(unpacked.rglob("*"))
        if listing is None:
            raise FewShotError(f"{source} has none of the known layouts of the data set; expected {expected}")
        return _account(folder, listing)
    except OSError as error:
        raise FewShotError(
            f"{error.filename or source} cannot be read ({error.strerror}); expected {expected}"
        ) from error


def _archives(files: Iterable[Path]) -> list[Path]:
    return sorted(f for f in files if f.is_file() and f.name[0] != "." and is_archive(f))


def _places(archives: Sequence[Path], unpacked: Path) -> list[tuple[Path, Path]]:
    """Where to unpack each archive: a single one into `unpacked`, several into folders of their names."""
    if len(archives) == 1 and not archives[0].is_relative_to(unpacked):
        return [(archives[0], unpacked)]
    return [
        ((a, (a.parent if a.is_relative_to(unpacked) else unpacked) / a.name.removesuffix(".gz").rpartition(".")[0]))
        for a in archives
    ]


def _lift(folder: Path) -> None:
    """What `train.zip` holds in a folder `train/` belongs into `train/`, not into `train/train/`."""
    inner = folder / folder.name
    if [*folder.iterdir()] == [inner] and inner.is_dir():
        aside = folder.with_name(f"{folder.name}.aside")
        inner.rename(aside)
        folder.rmdir()
        aside.rename(folder)


def _read(folder: Path, layouts: tuple[Layout, ...], options: PrepareOptions) -> Listing | None:
    """Read the layout that fits `folder` or a folder at most two levels below it; None where none fits.

    Raises FewShotError where folders of one level hold a data set each.
    """
    for level in folders_within(folder):
        fitting = [(root, layout) for root in level if (layout := _fitting(root, layouts)) is not None]
        if len(fitting) > 1:
            names = ", ".join(root.relative_to(folder).as_posix() for root, _ in fitting)
            raise FewShotError(f"{folder} holds several data sets: {names}; give one of them with --source")
        for root, layout in fitting:
            listing = layout.read(root, options)
            return listing if isinstance(listing, Listing) else Listing(listing)
    return None


def _fitting(root: Path, layouts: tuple[Layout, ...]) -> Layout | None:
    return next((layout for layout in layouts if layout.fits(root)), None)


def _account(source: Path, listing: Listing) -> Account:
    """Give every image file below the source that is not in the data set its reason."""
    stock = listing.stock
    if stock is None or stock.folder != source:
        stock = take_stock(source)
    used = {image.pixels for image in listing.images if isinstance(image.pixels, Path)}
    reasons = Counter(dict(listing.uncounted))
    for file in stock.images:
        if file not in used:
            place = file.parent.relative_to(source).as_posix()
            reasons[listing.left_out.get(file) or f"in {_short(place)}, which the layout does not have"] += 1
    for file in stock.no_decoder:
        reasons[f"{file.suffix.lower()} (no decoder installed)"] += 1
    reasons["hidden or in system folders"] += len(stock.hidden)
    reasons["links to files that are not there"] += len(stock.dangling)
    notes = listing.notes
    if stock.archives:
        names = ", ".join(a.name for a in stock.archives[:3]) + (", ..." if len(stock.archives) > 3 else "")
        notes += (f"archives beside the images are not opened: {names}",)
    return Account(listing.images, {reason: n for reason, n in reasons.items() if n}, notes)


def _short(place: str) -> str:
    """A folder by the first part of its path, so that a thousand folders are one reason."""
    return "the folder itself" if place == "." else f"{place.partition('/')[0]}/"


def without_missing(account: Account) -> tuple[Account, int]:
    """The account without listed files that are not there, and how many those are."""
    images = [s for s in account.images if not isinstance(s.pixels, Path) or exists(s.pixels)]
    return replace(account, images=images), len(account.images) - len(images)
