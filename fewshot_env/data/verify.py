"""Verify a prepared data set: its checksum, its splits against the published lists, and images that occur twice."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass

from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS
from fewshot_env.store import ImageClass, ImageStore, checksum, pixels_key, prepare_command

MAX_SHOWN = 10


@dataclass(frozen=True)
class Verification:
    """The result: lines to print, and groups of identical images by their numbers in the prepared data set."""

    lines: tuple[str, ...]
    duplicates: tuple[tuple[int, ...], ...]


def verify_store(store: ImageStore) -> Verification:
    """Verify the checksum and the splits of a prepared data set, and list images that occur twice.

    Raises:
        FewShotError: where the pixels do not have the checksum of the index, or a class is not in the split of the
            published list.
    """
    again = f"prepare it again: {prepare_command(store.path)}"
    if (actual := checksum(store.images)) != store.index["sha256"]:
        raise FewShotError(f"{store.path} has the checksum {actual[:16]}, not {store.index['sha256'][:16]}; {again}")
    duplicates = _duplicates(store)
    across = [group for group in duplicates if len({_split_of(store, i) for i in group}) > 1]
    shown = sorted(duplicates, key=lambda group: group not in across)[:MAX_SHOWN]
    lines = (
        f"checksum: right (sha256 {actual[:16]})",
        f"splits: no class in two of them; {_compare_with_list(store, again)}",
        f"holds: {store.holdings()}",
        *store.index.get("notes", ()),
        f"groups of identical images: {len(duplicates)}, of which across splits: {len(across)}",
        *("  " + " = ".join(_label(store, i) for i in group[:MAX_SHOWN]) for group in shown),
    )
    return Verification(lines, duplicates)


def _compare_with_list(store: ImageStore, again: str) -> str:
    """Compare the classes and their numbers with the published list, if there is one."""
    if "official" not in store.index:
        return "your own split"
    name = store.index.get("list", store.name)  # indexes of the first version have no "list"
    official = split_list(name)
    for c in store.classes:
        if official.find_split(c.name, str(store.path)) != c.split:
            raise FewShotError(
                f"{store.path} holds class {c.name} in {c.split}, unlike the {official.title} split; {again}"
            )
    held = {s: [len(store.of_split(s)), sum(c.count for c in store.of_split(s))] for s in SPLITS}
    over = [s for s in SPLITS if any(a > b for a, b in zip(held[s], official.official[s], strict=True))]
    if over:
        raise FewShotError(
            f"{store.path} holds {held[over[0]]} [classes, images] in {over[0]}, more than the official "
            f"{official.official[over[0]]}; {again}"
        )
    whole = "complete" if held == dict(official.official) else "a partial copy"
    return f"as in the {official.title} list, {whole}"


def _duplicates(store: ImageStore) -> tuple[tuple[int, ...], ...]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for i, image in enumerate(store.images):
        same[pixels_key(image)].append(i)
    return tuple(tuple(group) for group in same.values() if len(group) > 1)


def _class_of(store: ImageStore, image: int) -> ImageClass:
    return store.classes[bisect_right(store.classes, image, key=lambda c: c.start) - 1]


def _split_of(store: ImageStore, image: int) -> str:
    return _class_of(store, image).split


def _label(store: ImageStore, image: int) -> str:
    return f"{_class_of(store, image).name}/{store.index['files'][image]} ({_split_of(store, image)})"
