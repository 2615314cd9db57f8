"""Layouts with a folder per class: train/, val/ and test/, or one folder of classes with a split file or a ratio."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fewshot_env.data.source import Layout, PrepareOptions, SourceImage, folders_in, images_in, read_table
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS

SYNONYMS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
RATIO = "60/20/20"


def split_folders(root: Path) -> list[tuple[str, Path]]:
    """(split, class folder) for every class of train/, val/ and test/; FewShotError where a class is in two of them."""
    classes: dict[str, tuple[str, Path]] = {}
    for part in folders_in(root):
        split = SYNONYMS.get(part.name)
        for folder in folders_in(part) if split else ():
            if folder.name in classes:
                raise FewShotError(
                    f"class {folder.name} is in {classes[folder.name][0]} and in {split} of {root}; few-shot splits "
                    "have no class in common: put all images of a class into one folder, and give the folder of classes"
                )
            classes[folder.name] = (str(split), folder)
    return list(classes.values())


def read_split_folders(root: Path, options: PrepareOptions) -> list[SourceImage]:
    """Read `train/`, `val/`, `test/` with a folder of images for each class."""
    if options.split:
        raise FewShotError(f"{root} has the splits train/, val/, test/ already; leave out --split")
    return [
        SourceImage(file.name, folder.name, split, file)
        for split, folder in split_folders(root)
        for file in _class_images(folder)
    ]


def read_classes(root: Path, options: PrepareOptions) -> list[SourceImage]:
    """Read a folder for each class; --split is a CSV file (class,split) or a ratio such as 60/20/20 (the default)."""
    folders = {f.name: f for f in folders_in(root)}
    split = options.split or RATIO
    by_ratio = split.replace("/", "").isdigit()
    split_of = split_by_ratio(list(folders), split) if by_ratio else _split_file(Path(split), root, folders)
    return [
        SourceImage(file.name, name, split_of[name], file)
        for name in sorted(split_of)
        for file in _class_images(folders[name])
    ]


def split_by_ratio(classes: Sequence[str], ratio: str) -> dict[str, str]:
    """Assign classes to train, val and test by a ratio such as "60/20/20", at least one to each.

    Classes are sorted by the SHA-256 of their names: the same order on every machine, and unrelated to the alphabet.
    """
    parts = [int(p) for p in ratio.split("/") if p]
    if len(parts) != 3 or min(parts) < 1:
        raise FewShotError(f"--split is {ratio!r}, but must be a CSV file (class,split) or a ratio such as {RATIO}")
    n = len(classes)
    if n < 3:
        raise FewShotError(
            f"{n} classes cannot be split into train, val and test; get at least 3 (5-way tasks need 15)"
        )
    val, test = (min(max(1, round(n * part / sum(parts))), (n - 1) // 2) for part in parts[1:])
    order = sorted(classes, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest())
    return {name: "val" if i < val else "test" if i < val + test else "train" for i, name in enumerate(order)}


def _split_file(table: Path, root: Path, folders: dict[str, Path]) -> dict[str, str]:
    """Read lines class,split; classes that are not in the file are left out."""
    if not table.is_file():
        raise FewShotError(
            f"--split is {str(table)!r}, but must be a CSV file (class,split) or a ratio such as {RATIO}"
        )
    split_of: dict[str, str] = {}
    for row in read_table(table):
        name, split = row.get("class"), SYNONYMS.get(row.get("split") or "")
        if not name or not split:
            raise FewShotError(
                f"{table} must have lines class,split with train, val or test; found {list(row.values())}"
            )
        if name not in folders:
            raise FewShotError(f"{table} lists class {name}, which has no folder in {root}")
        if split_of.setdefault(name, split) != split:
            raise FewShotError(
                f"{table} lists class {name} in {split_of[name]} and in {split}; few-shot splits are disjoint"
            )
    if set(split_of.values()) != set(SPLITS):
        raise FewShotError(f"{table} must name classes for each of train, val and test")
    return split_of


def _class_images(folder: Path) -> list[Path]:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise FewShotError(f"the class folder {folder.name!r} has a name that is not UTF-8; rename it") from error
    images = images_in(folder)
    if not images:
        raise FewShotError(f"the class folder {folder} holds no images (jpg, png, ...); add some, or remove the folder")
    return images


SPLIT_FOLDERS = Layout(
    "folders train/, val/, test/ with a folder of images for each class",
    lambda root: {"train", "test"} <= {f.name for f in folders_in(root) if folders_in(f)},
    read_split_folders,
)
CLASS_FOLDERS = Layout(
    "a folder of images for each class", lambda root: any(images_in(f) for f in folders_in(root)), read_classes
)
LAYOUTS = (SPLIT_FOLDERS, CLASS_FOLDERS)
