"""CSV files as people write them: any usual separator, any case of the headers, spaces around the cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_env.data.source import read_text
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS

SEPARATORS = ",;\t|"

SPLIT_NAMES = {
    "train": "train", "training": "train", "base": "train", "source": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "novel": "test", "eval": "test", "target": "test",
}  # fmt: skip
"""The names that people give to the splits, in lower case."""

AROUND = re.compile(r"^meta[-_ ]?|[-_ ]?(set|split|images|classes|data)$")
"""What people write before and after such a name."""

COLUMNS: Mapping[str, Sequence[str]] = {
    "file": ("filename", "file", "image", "imagename", "imagefile", "imagepath", "filepath", "filepaths", "path",
             "img", "imgname", "fname", "imageid", "id"),
    "label": ("label", "labels", "class", "classname", "category", "categoryname", "species", "breed", "target"),
    "top": ("supercategory", "superclass", "supercategoryname", "family", "coarselabel"),
    "split": ("split", "dataset", "subset", "partition", "set"),
}  # fmt: skip
"""What a column holds, by its header in lower case without spaces, - and _; the first that is there counts."""


def split_of_name(name: str) -> str | None:
    """The split that a folder or file name stands for, in any case; None for another name.

    `meta_train`, `train_set` and `test-images` are train, train and test.
    """
    return SPLIT_NAMES.get(AROUND.sub("", name.strip().lower()))


def read_rows(file: Path) -> list[list[str]]:
    """The cells of a CSV file, without blank lines; raises FewShotError where it is not one."""
    text = read_text(file)
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    try:
        rows = csv.reader(text.splitlines(), delimiter=separator, skipinitialspace=True)
        return [cells for row in rows if any(cells := [cell.strip() for cell in row])]
    except csv.Error as error:
        raise FewShotError(f"{file} is not a CSV file ({error}); expected one line per entry") from error


def read_columns(file: Path, needs: Sequence[str]) -> list[dict[str, str]] | None:
    """The rows of a CSV file as {"file": ..., "label": ...}; columns that it does not have are missing there.

    Args:
        file: a CSV file, with or without a header line.
        needs: the columns that it must have, two of COLUMNS; without a header they are its first two.

    Returns:
        None where the file does not have these columns.

    Raises:
        FewShotError: where it is not CSV.
    """
    rows = read_rows(file)
    if not rows:
        return None
    header = [cell.lower().translate({ord(c): None for c in " -_"}) for cell in rows[0]]
    places = {
        what: next((header.index(name) for name in names if name in header), None) for what, names in COLUMNS.items()
    }
    if what := [w for w in needs if places[w] is None]:
        if len(what) < len(needs) or not _is_data(rows[0], needs):
            return None
        places, rows = dict(zip(needs, (0, 1), strict=True)), [[], *rows]
    return [
        {what: row[at] if at < len(row) else "" for what, at in places.items() if at is not None} for row in rows[1:]
    ]


def _is_data(row: Sequence[str], needs: Sequence[str]) -> bool:
    """Whether the first line is no header: it names a split, or a file with an ending."""
    if len(row) < 2:
        return False
    return split_of_name(row[1]) in SPLITS if needs[1] == "split" else bool(Path(row[0]).suffix)
