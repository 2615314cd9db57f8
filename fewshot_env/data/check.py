"""Check a prepared store: its checksum, its splits against the official lists, and images that occur twice."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS
from fewshot_env.store import ImageStore, checksum

MOST_SHOWN = 10


@dataclass(frozen=True)
class Report:
    """What was found: lines for people, and the groups of identical images by number in the store."""

    lines: tuple[str, ...]
    twins: tuple[tuple[int, ...], ...]


def check(store: ImageStore) -> Report:
    """Read the whole store; raises FewShotError where pixels or classes are not what the index says."""
    again = f"prepare it again: fsl data prepare {store.path.name} --source PATH"
    if (found := checksum(store.images)) != store.index["sha256"]:
        raise FewShotError(f"{store.path} has the checksum {found[:16]}, not {store.index['sha256'][:16]}; {again}")
    twins = _twins(store)
    across = [group for group in twins if len({_split_of(store, i) for i in group}) > 1]
    shown = sorted(twins, key=lambda group: group not in across)[:MOST_SHOWN]
    lines = (
        f"checksum: right (sha256 {found[:16]})",
        f"splits: no class in two of them; {_against_list(store, again)}",
        f"holds: {store.holdings()}",
        f"groups of identical images: {len(twins)}, of which across splits: {len(across)}",
        *("  " + " = ".join(_named(store, i) for i in group[:MOST_SHOWN]) for group in shown),
    )
    return Report(lines, twins)


def _against_list(store: ImageStore, again: str) -> str:
    """Compare classes and numbers with the published list, where there is one."""
    if "official" not in store.index:
        return "of your own"
    name = store.index.get("list", store.name)  # stores of the first version name no list
    official = split_list(name)
    for c in store.classes:
        if official.of(c.name, str(store.path)) != c.split:
            raise FewShotError(
                f"{store.path} holds class {c.name} in {c.split}, against the {official.title} split; {again}"
            )
    held = {s: [len(store.of_split(s)), sum(c.count for c in store.of_split(s))] for s in SPLITS}
    over = [s for s in SPLITS if any(a > b for a, b in zip(held[s], official.official[s], strict=True))]
    if over:
        raise FewShotError(
            f"{store.path} holds more in {over[0]} {held[over[0]]} than official {official.official[over[0]]}"
        )
    whole = "complete" if held == dict(official.official) else "a partial copy"
    return f"as the {official.title} list has them, {whole}"


def _twins(store: ImageStore) -> tuple[tuple[int, ...], ...]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for i, image in enumerate(store.images):
        same[hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()].append(i)
    return tuple(tuple(group) for group in same.values() if len(group) > 1)


def _split_of(store: ImageStore, image: int) -> str:
    starts = [c.start for c in store.classes]
    return store.classes[bisect_right(starts, image) - 1].split


def _named(store: ImageStore, image: int) -> str:
    return f"{store.index['files'][image]} ({_split_of(store, image)})"
