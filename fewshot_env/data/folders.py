"""Your own images: class folders, also in split folders, or a flat folder with CSV files; nested or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_env.data.class_splits import choose_splits, normal
from fewshot_env.data.inventory import Stock, has_images, take_stock
from fewshot_env.data.source import Layout, Listing, PrepareOptions, SourceImage
from fewshot_env.data.tables import read_columns, split_of_name
from fewshot_env.errors import FewShotError

CONTAINERS = frozenset({"images", "image", "imgs", "img", "photos", "pictures", "jpg", "jpeg", "jpegs", "png", "pngs"})
"""Folders that hold the images of the class whose folder they are in."""


@dataclass(frozen=True)
class _Found:
    """An image file and what the layout says of it; `split` is None where it says nothing."""

    file: Path
    name: str
    class_name: str
    split: str | None


def read_own(root: Path, options: PrepareOptions) -> Listing:
    """Read your own images.

    The data set begins at the first folder with more than one folder of images in it. There it has

    - split folders (`train/`, `base/`, ... in any case; fewshot_env.data.tables.SPLIT_NAMES) with class folders, or
    - class folders, or
    - a flat folder of images with `train.csv`, `val.csv`, `test.csv` or one CSV file, with the columns file and label.

    A class is a folder that holds images itself, with everything below it; `super/class` is one class, and so is
    `class/images/`. With `options.classes` = "top" the classes are the first folders, with everything below them (in
    a CSV file: the super-category).
    """
    if options.classes not in ("leaf", "top"):
        raise FewShotError(f"--classes is {options.classes!r}, but must be leaf or top")
    stock = take_stock(root)
    start = _start(root, stock.images)
    parts = _split_folders(start, stock.images)
    left_out: dict[Path, str] = {}
    notes: list[str] = []
    if parts:
        found = [
            one
            for folder, split in parts.items()
            for one in _classes(_start(folder, stock.images), stock.images, options.classes, split, left_out)
        ]
        beside = f"beside {_and(f'{p.name}/' for p in parts)}"
        left_out |= {f: beside for f in stock.images if not any(f.is_relative_to(p) for p in parts)}
    elif _is_flat(start, stock.images):
        found = _listed(start, stock, options.classes, notes)
    else:
        found = _classes(start, stock.images, options.classes, None, left_out)
        notes += [f"{t.name} is not read: the folders name the classes" for t in _tables(start)]
    _verify_names(found)
    split_of = choose_splits([(one.class_name, one.split) for one in found], start, options.split)
    left_out |= {one.file: f"in classes that {options.split} does not list" for one in found
                 if one.class_name not in split_of}  # fmt: skip
    images = [SourceImage(o.name, o.class_name, split_of[o.class_name], o.file)
              for o in found if o.class_name in split_of]  # fmt: skip
    names: dict[str, set[str]] = {}
    for one in found:
        names.setdefault("".join(one.class_name.casefold().split()), set()).add(one.class_name)
    notes += [f"classes whose names differ only in case or spaces: {_and(v)}" for v in names.values() if len(v) > 1]
    if empty := [folder.name for folder in stock.empty]:
        notes.append(f"{len(empty)} {'folder' if len(empty) == 1 else 'folders'} without images: {_few(empty)}")
    return Listing(images, left_out, {}, (*notes, *_nesting(start, images, options.classes)), stock)


def _start(root: Path, images: Sequence[Path]) -> Path:
    """The folder in which the data set begins: below `root`, past folders that hold nothing but one other."""
    while True:
        folders = {root / f.relative_to(root).parts[0] for f in images if f.is_relative_to(root) and f.parent != root}
        direct = any(f.parent == root for f in images)
        only = next(iter(folders)) if len(folders) == 1 and not direct else None
        if only is None or any(f.parent == only for f in images) or split_of_name(only.name):
            return root
        root = only


def _split_folders(start: Path, images: Sequence[Path]) -> dict[Path, str]:
    """The folders in `start` that are splits: their names say so, and they hold class folders, not images."""
    depth = len(start.parts)
    inner = {Path(*f.parts[: depth + 1]): len(f.parts) for f in images if len(f.parts) > depth + 1}
    deep = {Path(*f.parts[: depth + 1]) for f in images if len(f.parts) > depth + 2}
    parts = {folder: split for folder in sorted(inner) if folder in deep and (split := split_of_name(folder.name))}
    return parts if len(set(parts.values())) > 1 or len(parts) == len(inner) else {}


def _is_flat(start: Path, images: Sequence[Path]) -> bool:
    """Whether no class folders are there: all images are in `start`, in one folder in it, or in split folders."""
    parents = {f.parent for f in images}
    inner = parents - {start}
    return len(parents) == 1 or not inner or all(p.parent == start and split_of_name(p.name) for p in inner)


def _classes(
    start: Path, images: Sequence[Path], choice: str, split: str | None, left_out: dict[Path, str]
) -> list[_Found]:
    """The images below `start` with the names of their classes; those in no class folder are added to `left_out`."""
    own = [f for f in images if f.is_relative_to(start)]
    holds = {f.parent for f in own}
    found = []
    for file in own:
        parts = file.relative_to(start).parts[:-1]
        if not parts:
            left_out[file] = f"in {start.name}/ itself, in no class folder"
            continue
        depth = 1 if choice == "top" else next(n for n in range(1, 99) if start.joinpath(*parts[:n]) in holds)
        if depth > 1 and parts[depth - 1].lower() in CONTAINERS:
            depth -= 1
        folder = start.joinpath(*parts[:depth])
        found.append(_Found(file, file.relative_to(folder).as_posix(), normal("/".join(parts[:depth])), split))
    return found


def _tables(start: Path) -> list[Path]:
    return sorted(f for f in start.iterdir() if f.suffix.lower() in (".csv", ".tsv") and f.name[0] != ".")


def _listed(start: Path, stock: Stock, choice: str, notes: list[str]) -> list[_Found]:
    """The images of a flat folder, as the CSV files there list them."""
    tables = {table: rows for table in _tables(start) if (rows := read_columns(table, ("file", "label"))) is not None}
    of_split = {table: split for table in tables if (split := split_of_name(table.stem))}
    chosen: Mapping[Path, str | None] = of_split or dict.fromkeys(tables)
    if not chosen:
        raise FewShotError(
            f"{start} holds {len(stock.images)} images, but no folder for each class, and no CSV file with the columns "
            "file,label; put the images of a class into a folder of its own, or add such a file"
        )
    if len(chosen) > 1 and not of_split:
        raise FewShotError(
            f"{start} holds several lists of images, {_and(t.name for t in tables)}; keep the one to read, or name "
            "them train.csv, val.csv, test.csv"
        )
    notes += [f"{t.name} is not read: {_and(c.name for c in chosen)} list the images" for t in tables.keys() - chosen]
    by_name: dict[str, Path | None] = {}
    for file in stock.images:  # by the path below any folder, and without ending; None where several have it
        parts = file.relative_to(start).parts
        for names in (parts[i:] for i in range(len(parts))):
            for name in {"/".join(names), str(Path(*names).with_suffix(""))}:
                by_name[name] = None if name in by_name and by_name[name] != file else file
    found: dict[Path, _Found] = {}
    for table, split in chosen.items():
        for number, row in enumerate(tables[table], 2):
            label = row.get("top", "") if choice == "top" and row.get("top") else row["label"]
            wanted = row["file"].replace("\\", "/").removeprefix("./")
            if not label or not wanted:
                raise FewShotError(f"{table}, line {number}: expected a file and its label, found {list(row.values())}")
            if wanted in by_name and by_name[wanted] is None:
                raise FewShotError(
                    f"{table}, line {number}: several files below {start} are named {wanted}; add folders"
                )
            file = by_name.get(wanted) or start / wanted.replace("/", "_")  # the latter is not there
            one = _Found(file, wanted, normal(label), split or _row_split(table, number, row))
            if found.setdefault(file, one) != one:
                raise FewShotError(
                    f"{table}, line {number}: {wanted} is {label} in {one.split or 'no split'}, but before it was "
                    f"{found[file].class_name} in {found[file].split or 'no split'}; list each image once"
                )
    return list(found.values())


def _row_split(table: Path, number: int, row: Mapping[str, str]) -> str | None:
    if not row.get("split"):
        return None
    split = split_of_name(row["split"])
    if split is None:
        raise FewShotError(f"{table}, line {number}: the split is {row['split']!r}, but must be train, val or test")
    return split


def _verify_names(found: Iterable[_Found]) -> None:
    """Raise FewShotError where a class's name cannot be written into the index."""
    for name in {one.class_name for one in found}:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise FewShotError(f"the class folder {name!r} has a name that is not UTF-8; rename it") from error


def _nesting(start: Path, images: Sequence[SourceImage], choice: str) -> list[str]:
    """A line about nested class folders, and the choice that there is."""
    names = {image.class_name for image in images}
    tops = {name.partition("/")[0] for name in names}
    if choice == "leaf" and len(tops) < len(names):
        return [f"{len(names)} classes in {len(tops)} folders of {start.name}/; to make the {len(tops)} folders the "
                "classes: --classes top"]  # fmt: skip
    return []


def _and(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


OWN = Layout(
    "folders train/, val/, test/ with a folder of images for each class, a folder of images for each class, or images "
    "with CSV files (file,label)",
    has_images,
    read_own,
)
LAYOUTS = (OWN,)
