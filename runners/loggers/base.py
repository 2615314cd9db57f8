"""Where a run's numbers go: a JSON line and a CSV column always, and the loggers that the settings name."""

from __future__ import annotations

import csv
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewshot_env import durable
from fewshot_env.errors import FewShotError, said, suggest
from runners.config.settings import Settings
from runners.console.output import log
from runners.storage import charts as chart_file
from runners.storage.schemas import ChartLine, Line, RowLine, fit, lines_of, parse, read_lines

if TYPE_CHECKING:
    from runners.loggers.tensorboard import TensorBoard

Row = Mapping[str, float]


class Logger(ABC):
    """Takes rows of named numbers at a number of tasks seen. Yours defines `write`; the rest is optional."""

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        """folder: the run's. settings: the resolved ones. tasks_seen: 0, or where a resumed run goes on."""
        self.folder, self.settings = folder, settings

    @abstractmethod
    def write(self, tasks_seen: int, row: Row) -> None:
        """Log one row."""

    def picture(self, tag: str, picture: NDArray[np.uint8], tasks_seen: int) -> None:
        """Log a picture [H, W, 3]; the default does not."""
        return

    def flush(self) -> None:
        """Write out what is pending: a checkpoint follows, from which a resumed run goes on."""
        return

    def close(self) -> None:
        """Write out what is pending, and end."""
        return


LOGGERS = {
    "tensorboard": "runners.loggers.tensorboard:TensorBoard",
    "wandb": "runners.loggers.wandb:WandB",
    "mlflow": "runners.loggers.mlflow:MLflow",
}


def find(name: str) -> type[Logger]:
    """The class of a logger: one of ours, of the entry points `fsl.loggers`, or "module:Class".

    Raises FewShotError where there is none, or its package is missing or broken.
    """
    known = {point.name: point.value for point in entry_points(group="fsl.loggers")} | LOGGERS
    where = known.get(name, name)
    if ":" not in where:
        raise FewShotError(f"unknown logger {name!r}{suggest(name, known)}; known: {', '.join(known)}, or module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")
    module, _, attribute = where.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        mend = f"pip install 'fewshot[{name}]'" if name in LOGGERS else "install it"
        raise FewShotError(f"the logger {name!r} needs the package {error.name!r}: {mend}") from error
    except (Exception, SystemExit) as error:  # whatever a package does wrong when it is imported
        raise FewShotError(f"the logger {name!r} can not be imported: {said(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Logger)):
        raise FewShotError(f"the logger {name!r} is not a class derived from runners.loggers.Logger")
    return found


class JSONLines:
    """One JSON object a row: {"tasks": n, "train/loss": ...}.

    Of an older part the first `rows` stay, none of them beyond `tasks_seen`; the rest is logged again. Of these rows
    those are lost, and told of, that are not there or not of the form of `model`.
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


class Loggers:
    """The loggers of one run: files always, and those that its settings name."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        tasks_seen: int,
        rows: int | None = None,
        charts: int | None = None,
    ) -> None:
        self.folder = folder
        self.rows = JSONLines(folder / "metrics.jsonl", tasks_seen, rows)
        self.charts = JSONLines(folder / chart_file.FILE, tasks_seen, charts, ChartLine)
        self._named: list[Logger] = []
        for name in settings["loggers"]:
            try:
                self._named.append(find(name)(folder, settings, tasks_seen))
            except Exception as error:  # whatever a service or its package does wrong
                self.close()
                raise FewShotError(f"the logger {name!r} can not begin: {said(error)}") from error

    @property
    def boards(self) -> list[TensorBoard]:
        """TensorBoard, which takes more than numbers and pictures, if it is among them."""
        from runners.loggers.tensorboard import TensorBoard

        return [logger for logger in self._named if isinstance(logger, TensorBoard)]

    def write(self, tasks_seen: int, row: Row) -> None:
        """Give a row to every logger."""
        self.rows.write(tasks_seen, row)
        self._have_each(lambda logger: logger.write(tasks_seen, row))

    def picture(self, tag: str, picture: NDArray[np.uint8] | None, tasks_seen: int) -> None:
        """Give a picture to every logger, if there is one."""
        if picture is not None:
            self._have_each(lambda logger: logger.picture(tag, picture, tasks_seen))

    def flush(self) -> None:
        """Have every logger write out what is pending."""
        self.rows.flush()
        self.charts.flush()
        self._have_each(lambda logger: logger.flush())

    def close(self) -> None:
        """Close every logger, and write the rows once more as metrics.csv, a line for each number of tasks."""
        self._have_each(lambda logger: logger.close())
        self.rows.close()
        self.charts.close()
        write_csv(self.folder)

    def _have_each(self, act: Callable[[Logger], None]) -> None:
        """Have every named logger do something. A plug-in that fails is told of once, and left out from then on."""
        for logger in list(self._named):
            try:
                act(logger)
            except Exception as error:
                if logger in self.boards:  # its files lie in the run's folder: a full disk, say
                    raise
                self._named.remove(logger)
                log.warning(f"fsl: the logger {type(logger).__name__} failed and is left out: {said(error)}")


@contextmanager
def closed_in_the_end(every: Sequence[Loggers]) -> Iterator[None]:
    """Close all these loggers afterwards; where closing fails after another error, that one is told."""
    try:
        yield
    except BaseException:
        for loggers in every:
            with suppress(Exception):
                loggers.close()
        raise
    for loggers in every:
        loggers.close()


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
