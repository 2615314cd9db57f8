"""Your own images: class folders, also in split folders, or a flat folder with CSV files; nested or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fewshot_env.data.class_splits import choose_splits, normal
from fewshot_env.data.inventory import has_images, take_stock
from fewshot_env.data.lists import Found, Tables, joined, lists_of, not_read, read_lists
from fewshot_env.data.source import Layout, Listing, PrepareOptions, SourceImage
from fewshot_env.data.tables import split_of_name
from fewshot_env.errors import FewShotError

CONTAINERS = frozenset({"images", "image", "imgs", "img", "photos", "pictures", "jpg", "jpeg", "jpegs", "png", "pngs"})
"""Folders that hold the images of the class whose folder they are in."""


def read_own(root: Path, options: PrepareOptions) -> Listing:
    """Read your own images.

    The data set begins at the first folder with more than one folder of images in it. There it has

    - split folders (`train/`, `base/`, ... in any case; fewshot_env.data.tables.SPLIT_NAMES) with class folders, or
    - `train.csv`, `val.csv`, `test.csv` or one CSV file, with the columns file and label, that list at least half of
      the images below, in whatever folders these are, or
    - class folders.

    A class is a folder that holds images itself or in `images/`, with everything below it; `super/class` is one class.
    With `options.classes` = "top" the classes are the first folders, with everything below them (in a CSV file: the
    super-category).
    """
    if options.classes not in ("leaf", "top"):
        raise FewShotError(f"--classes is {options.classes!r}, but must be leaf or top")
    stock = take_stock(root)
    start = _start(root, stock.images)
    left_out: dict[Path, str] = {}
    notes: list[str] = []
    chosen = (Path(options.split or "").absolute(),)
    if parts := _split_folders(start, stock.images) or _splits_below(start, stock.images, notes):
        start = next(iter(parts)).parent
        found = [
            one
            for folder, split in parts.items()
            for one in _classes(
                _start_of_split(folder, stock.images, options.classes), stock.images, options.classes, split, left_out
            )
        ]
        beside = f"beside {joined(f'{p.name}/' for p in parts)}"
        left_out |= {f: beside for f in stock.images if not any(f.is_relative_to(p) for p in parts)}
        notes += not_read(start, chosen, "the folders name classes and splits")
    elif lists := _lists(root, start, stock.images):
        start, tables = lists
        found = read_lists(start, tables, stock, options.classes, left_out)
        given = [t for t in tables if split_of_name(t.stem)] or list(tables)
        read = [*(t.absolute() for t in given), *chosen]
        notes += not_read(start, read, f"{joined(t.name for t in given)} list the images")
    elif _is_flat(start, stock.images):  # and no list
        raise FewShotError(
            f"{start} holds {len(stock.images)} images, but no folder for each class, and no CSV file with the columns "
            "file,label that lists them; put the images of a class into a folder of its own, or add such a file"
        )
    else:
        found = _classes(start, stock.images, options.classes, None, left_out)
        notes += not_read(start, chosen, "it does not list half of the images by the columns file,label")
        notes += [
            f"{name}/ is read as a folder of classes, not as a split: no other folder beside it is named like one"
            for name in sorted({one.class_name.partition("/")[0] for one in found if "/" in one.class_name})
            if split_of_name(name)
        ]
    _verify_names(found)
    split_of = choose_splits([(one.class_name, one.split) for one in found], start, options.split)
    left_out |= {one.file: f"in classes that {options.split} does not list" for one in found
                 if one.class_name not in split_of}  # fmt: skip
    images = [SourceImage(o.name, o.class_name, split_of[o.class_name], o.file)
              for o in found if o.class_name in split_of]  # fmt: skip
    names: dict[str, set[str]] = {}
    for one in found:
        names.setdefault("".join(one.class_name.casefold().split()), set()).add(one.class_name)
    forms: dict[str, set[str]] = {}
    for one in found:
        forms.setdefault(one.class_name, set()).update(p for p in one.file.parts if normal(p) in one.class_name)
    same = [name for name, parts in forms.items() if len(parts) > len({normal(p) for p in parts})]
    notes += [f"folders whose names differ only in their Unicode form are one class: {joined(same)}"] if same else []
    notes += [f"classes whose names differ only in case or spaces: {joined(v)}" for v in names.values() if len(v) > 1]
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


def _start_of_split(folder: Path, images: Sequence[Path], choice: str) -> Path:
    """The folder in which a split's class folders are, past one that holds nothing but them (`train/images/CLASS`)."""
    start = folder if choice == "top" else _start(folder, images)
    holds = {f.parent for f in images if f.is_relative_to(start)}
    is_class = start != folder and all(p.parent == start and p.name.lower() in CONTAINERS for p in holds)
    return start.parent if is_class else start


def _lists(root: Path, start: Path, images: Sequence[Path]) -> tuple[Path, Tables] | None:
    """The first folder from `root` down to `start` with CSV files that list the images, and these."""
    flat = _is_flat(start, images)
    way = [*reversed([p for p in start.parents if p.is_relative_to(root)]), start]
    return next(((folder, found) for folder in way if (found := lists_of(folder, images, flat))), None)


def _splits_below(start: Path, images: Sequence[Path], notes: list[str]) -> dict[Path, str]:
    """The split folders in the only folder in `start` that has any, where at least half of the images are in them."""
    depth = len(start.parts)
    folders = sorted({Path(*f.parts[: depth + 1]) for f in images if len(f.parts) > depth + 1})
    having = {folder: parts for folder in folders if len(set((parts := _split_folders(folder, images)).values())) > 1}
    if len(having) == 1:
        ((_, parts),) = having.items()
        if 2 * sum(any(f.is_relative_to(p) for p in parts) for f in images) >= len(images):
            return parts
    if having:
        names = [f.name + "/" for f in having]
        notes.append(f"the splits in {_few(names)} are read as folders of classes; for one of them give it as --source")
    return {}


def _split_folders(start: Path, images: Sequence[Path]) -> dict[Path, str]:
    """The folders in `start` that are splits: their names say so, and they hold class folders, not images."""
    depth = len(start.parts)
    below = [f for f in images if f.is_relative_to(start)]
    inner = {Path(*f.parts[: depth + 1]): len(f.parts) for f in below if len(f.parts) > depth + 1}
    deep = {Path(*f.parts[: depth + 1]) for f in below if len(f.parts) > depth + 2}
    parts = {folder: split for folder in sorted(inner) if folder in deep and (split := split_of_name(folder.name))}
    return parts if len(set(parts.values())) > 1 or len(parts) == len(inner) else {}


def _is_flat(start: Path, images: Sequence[Path]) -> bool:
    """Whether no class folders are there: all images are in `start`, in one folder in it, or in split folders."""
    parents = {f.parent for f in images}
    inner = parents - {start}
    return len(parents) == 1 or not inner or all(p.parent == start and split_of_name(p.name) for p in inner)


def _classes(
    start: Path, images: Sequence[Path], choice: str, split: str | None, left_out: dict[Path, str]
) -> list[Found]:
    """The images below `start` with the names of their classes; those in no class folder are added to `left_out`."""
    own = [f for f in images if f.is_relative_to(start)]
    holds = {f.parent for f in own}
    holds |= {p.parent for p in holds if p.name.lower() in CONTAINERS and p.parent != start}
    found = []
    for file in own:
        parts = file.relative_to(start).parts[:-1]
        if not parts:
            left_out[file] = f"in {start.name}/ itself, in no class folder"
            continue
        depth = 1 if choice == "top" else next(n for n in range(1, 99) if start.joinpath(*parts[:n]) in holds)
        folder = start.joinpath(*parts[:depth])
        found.append(Found(file, file.relative_to(folder).as_posix(), normal("/".join(parts[:depth])), split))
    return found


def _verify_names(found: Iterable[Found]) -> None:
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


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


OWN = Layout(
    "folders train/, val/, test/ with a folder of images for each class, a folder of images for each class, or images "
    "with CSV files (file,label)",
    has_images,
    read_own,
)
LAYOUTS = (OWN,)
