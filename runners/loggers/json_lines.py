"""metrics.jsonl and metrics.csv: the numbers of a run, written and read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from fewshot_env import durable
from fewshot_env.settings import fit
from runners.console.output import log
from runners.storage.schemas import Line, RowLine, lines_of, parse, read_lines


class JSONLines:
    """A file with one JSON object in a line: {"tasks": n, "train/loss": ...}.

    Args:
        file: the file, which may exist from an earlier part of the run.
        tasks_seen: lines beyond this number of tasks are removed, because they are logged again.
        rows: how many lines the checkpoint counts; later ones are removed, and a warning reports missing ones. None:
            not known.
        model: the form of a line; reading stops at the first that has another.
    """

    def __init__(self, file: Path, tasks_seen: int, rows: int | None = None, model: type[Line] = RowLine) -> None:
        kept = []
        for line in lines_of(file)[:rows] if file.exists() else []:
            try:
                if fit(model, parse(line)).tasks <= tasks_seen:
                    kept.append(line + "\n")
            except ValueError:
                break  # a line cut off by a kill
        if len(kept) < (rows or 0):
            log.warning(
                f"fsl: {file} holds {len(kept)} of the {rows} rows that the checkpoint counts; the rest is lost"
            )
        if file.exists():
            durable.write(file, "".join(kept).encode())
        self.count = len(kept)
        self._stream = file.open("a")

    def write(self, tasks_seen: int, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self._stream.write(json.dumps({"tasks": tasks_seen, **row}) + "\n")
        self._stream.flush()
        self.count += 1

    def flush(self) -> None:
        """Force the rows to the disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_rows(folder: Path) -> dict[int, dict[str, float]]:
    """All that a run logged, tasks seen -> tag -> number; raises FewShotError where that is not readable."""
    rows: dict[int, dict[str, float]] = {}
    for row in read_lines(RowLine, folder / "metrics.jsonl"):
        rows.setdefault(row.tasks, {}).update(row.__pydantic_extra__)
    return rows


def write_csv(folder: Path) -> None:
    """metrics.csv from metrics.jsonl: a column for each tag, a line for each number of tasks seen."""
    rows = read_rows(folder)
    tags = dict.fromkeys(tag for row in rows.values() for tag in row)
    text = StringIO(newline="")
    table = csv.DictWriter(text, ["tasks", *tags])
    table.writeheader()
    table.writerows({"tasks": tasks, **row} for tasks, row in rows.items())
    durable.write(folder / "metrics.csv", text.getvalue().encode(errors="backslashreplace"))
