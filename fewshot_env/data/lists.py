"""CSV files that list images with their labels, and maybe their splits: train.csv, val.csv, test.csv, or one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_env.data.class_splits import normal
from fewshot_env.data.inventory import Stock
from fewshot_env.data.tables import read_columns, split_of_name
from fewshot_env.errors import FewShotError

Row = dict[str, str]
Tables = dict[Path, list[Row]]


@dataclass(frozen=True)
class Found:
    """An image file and what the layout says of it; `split` is None where it says nothing."""

    file: Path
    name: str
    class_name: str
    split: str | None


def tables_in(folder: Path) -> list[Path]:
    """The CSV files in a folder, sorted."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in (".csv", ".tsv") and f.name[0] != ".")
    return sorted(f for f in files if f.is_file())


def lists_of(folder: Path, images: Sequence[Path], only: bool) -> Tables:
    """The CSV files in `folder` that list images, with the columns file and label.

    only: whether nothing else names the classes; else the files must list at least half of the images, together, and
    what is no such list is passed over.
    """
    tables = {t: rows for t in tables_in(folder) if (rows := _rows(t, only))}
    if only or not tables:
        return tables
    by_name = _by_name(folder, images)
    tables = {t: rows for t, rows in tables.items() if any(_wanted(row) in by_name for row in rows)}
    listed = {by_name.get(_wanted(row)) for rows in tables.values() for row in rows}
    return tables if 2 * len(listed - {None}) >= len(images) else {}


def _rows(table: Path, must: bool) -> list[Row] | None:
    try:
        return read_columns(table, ("file", "label"))
    except FewShotError:
        if must:
            raise
        return None


def read_lists(start: Path, tables: Tables, stock: Stock, choice: str, left_out: dict[Path, str]) -> list[Found]:
    """The images below `start` as the lists there give them; images that none lists are added to `left_out`.

    Raises:
        FewShotError: where several lists contradict each other, or a line is not one.
    """
    of_split = {table: split for table in tables if (split := split_of_name(table.stem))}
    chosen: Mapping[Path, str | None] = of_split or dict.fromkeys(tables)
    if len(chosen) > 1 and not of_split:
        raise FewShotError(
            f"{start} holds several lists of images, {joined(t.name for t in tables)}; keep the one to read, or name "
            "them train.csv, val.csv, test.csv"
        )
    by_name = _by_name(start, [*stock.images, *stock.no_decoder, *stock.hidden])
    no_images = {*stock.no_decoder, *stock.hidden}  # which are accounted for already
    found: dict[Path, Found] = {}
    for table, split in chosen.items():
        for number, row in enumerate(tables[table], 2):
            label = row.get("top", "") if choice == "top" and row.get("top") else row["label"]
            wanted = _wanted(row)
            if not label or not wanted:
                raise FewShotError(f"{table}, line {number}: expected a file and its label, found {list(row.values())}")
            if wanted in by_name and by_name[wanted] is None:
                raise FewShotError(
                    f"{table}, line {number}: several files below {start} are named {wanted}; add folders"
                )
            file = by_name.get(wanted) or start / wanted.replace("/", "_")  # the latter is not there
            if file in no_images:
                continue
            one = Found(file, wanted, normal(label), split or _row_split(table, number, row))
            if found.setdefault(file, one) != one:
                raise FewShotError(
                    f"{table}, line {number}: {wanted} is {label} in {one.split or 'no split'}, but before it was "
                    f"{found[file].class_name} in {found[file].split or 'no split'}; list each image once"
                )
    left_out |= {file: f"not listed in {joined(t.name for t in chosen)}" for file in stock.images if file not in found}
    return list(found.values())


def not_read(start: Path, read: Iterable[Path], why: str) -> list[str]:
    """A line for each CSV file in `start` that is not read."""
    return [f"{table.name} is not read: {why}" for table in tables_in(start) if table.absolute() not in read]


def _by_name(start: Path, files: Iterable[Path]) -> dict[str, Path | None]:
    """Files by their path below any folder, with and without ending; None where several have it."""
    by_name: dict[str, Path | None] = {}
    for file in files:
        if file.is_relative_to(start):
            parts = file.relative_to(start).parts
            for names in (parts[i:] for i in range(len(parts))):
                for name in {"/".join(names), str(Path(*names).with_suffix(""))}:
                    by_name[name] = None if name in by_name and by_name[name] != file else file
    return by_name


def _wanted(row: Mapping[str, str]) -> str:
    return row["file"].replace("\\", "/").removeprefix("./")


def _row_split(table: Path, number: int, row: Mapping[str, str]) -> str | None:
    if not row.get("split"):
        return None
    split = split_of_name(row["split"])
    if split is None:
        raise FewShotError(f"{table}, line {number}: the split is {row['split']!r}, but must be train, val or test")
    return split


def joined(names: Iterable[str]) -> str:
    """Names in one line, sorted."""
    return ", ".join(sorted(names))
