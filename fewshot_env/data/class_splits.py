"""Which of your own classes are for training, validation, testing: by folder, by ratio, by a file, or all to test."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from fewshot_env.data.tables import read_columns, split_of_name
from fewshot_env.errors import FewShotError

RATIO = "60/20/20"
WAYS_TO_SPLIT = f"a CSV file (class,split), a ratio such as {RATIO}, or test (all classes are a target)"


def normal(name: str) -> str:
    """A class's name in one Unicode form: macOS writes an accent as a character of its own, and others do not."""
    return unicodedata.normalize("NFC", name)


def choose_splits(found: Sequence[tuple[str, str | None]], where: Path, choice: str | None) -> dict[str, str]:
    """The split of each class; classes that a split file does not list are missing.

    Args:
        found: of every image its class, and the split that it was found in, or None.
        where: the folder of the data set, for messages.
        choice: a ratio, "test" for all classes, or a CSV file; None for the splits that were found, else 60/20/20.

    Raises:
        FewShotError: where the classes cannot be split so.
    """
    names = list(dict.fromkeys(name for name, _ in found))
    if choice is None and any(split for _, split in found):
        return _given_splits(found, where)
    split = choice or RATIO
    if split == "test":
        return dict.fromkeys(names, "test")
    if split.replace("/", "").isdigit():
        return split_by_ratio(names, split)
    return _split_file(Path(split), where, names)


def _given_splits(found: Sequence[tuple[str, str | None]], where: Path) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for name, split in found:
        if split is None:
            raise FewShotError(f"{where}: class {name} has no split, but others have one; give all of them one")
        if split_of.setdefault(name, split) != split:
            raise FewShotError(
                f"class {name} is in {split_of[name]} and in {split} of {where}; few-shot splits have no class in "
                f"common: to join the images of each class and split the classes anew, add --split {RATIO}"
            )
    return split_of


def split_by_ratio(classes: Sequence[str], ratio: str) -> dict[str, str]:
    """Assign classes to train, val and test by a ratio such as "60/20/20"; at least one to each that is not 0.

    Classes are sorted by the SHA-256 of their names: the same order on every machine, and unrelated to the alphabet.
    """
    parts = [int(p) for p in ratio.split("/") if p]
    if len(parts) != 3 or min(parts[0], parts[2]) < 1:
        raise FewShotError(f"--split is {ratio!r}, but must be {WAYS_TO_SPLIT}")
    n, needed = len(classes), 3 if parts[1] else 2
    if n < needed:
        raise FewShotError(
            f"{n} {'class' if n == 1 else 'classes'} cannot be split into train, val and test; get at least {needed} "
            "(5-way tasks need 15), or make all of them the target of another data set: --split test"
        )
    val, test = (min(max(1, round(n * p / sum(parts))), (n - 1) // (needed - 1)) if p else 0 for p in parts[1:])
    order = sorted(classes, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest())
    return {name: "val" if i < val else "test" if i < val + test else "train" for i, name in enumerate(order)}


def _split_file(table: Path, where: Path, classes: Sequence[str]) -> dict[str, str]:
    """Read lines class,split; classes that are not in the file are left out."""
    if not table.is_file():
        raise FewShotError(f"--split is {str(table)!r}, but must be {WAYS_TO_SPLIT}")
    rows = read_columns(table, ("label", "split"))
    if not rows:
        raise FewShotError(f"{table} must have lines class,split with train, val or test")
    split_of: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        name, split = normal(row["label"].replace("\\", "/")), split_of_name(row["split"])
        if not name or not split:
            raise FewShotError(
                f"{table}, line {number}: must have lines class,split with train, val or test; "
                f"found {list(row.values())}"
            )
        if name not in classes:
            raise FewShotError(f"{table} lists class {name}, which has no folder in {where}")
        if split_of.setdefault(name, split) != split:
            raise FewShotError(
                f"{table} lists class {name} in {split_of[name]} and in {split}; few-shot splits are disjoint"
            )
    return split_of
