"""The loggers of one run: metrics.jsonl and charts.jsonl always, and those that its settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, said
from runners.config.settings import Settings
from runners.console.output import log
from runners.loggers.base import Logger, Row, find_logger
from runners.loggers.json_lines import JSONLines, write_csv
from runners.storage import charts as chart_file
from runners.storage.schemas import ChartLine


class Loggers:
    """Passes everything on to every logger of a run.

    Args:
        folder: the run's folder.
        settings: the resolved settings; "loggers" names the loggers.
        tasks_seen: 0, or where a resumed run continues.
        rows: lines of metrics.jsonl that the checkpoint counts.
        charts: lines of charts.jsonl, likewise.

    Raises:
        FewShotError: where a logger cannot be found or cannot start.
    """

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
                self._named.append(find_logger(name)(folder, settings, tasks_seen))
            except Exception as error:  # whatever a service or its package does wrong
                self.close()
                raise FewShotError(f"the logger {name!r} cannot start: {said(error)}") from error

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log a row of numbers."""
        self.rows.write(tasks_seen, row)
        self._for_each(lambda logger: logger.write(tasks_seen, row))

    def picture(self, tag: str, picture: NDArray[np.uint8] | None, tasks_seen: int) -> None:
        """Log a picture, if there is one."""
        if picture is not None:
            self._for_each(lambda logger: logger.picture(tag, picture, tasks_seen))

    def histogram(self, tag: str, values: Tensor, tasks_seen: int) -> None:
        """Log the finite ones of these values, of any shape, if there are any."""
        values = values.detach().flatten().float().cpu()
        values = values[values.isfinite()]
        if len(values):
            self._for_each(lambda logger: logger.histogram(tag, values, tasks_seen))

    def embedding(
        self, tag: str, features: Tensor, columns: Mapping[str, Sequence[Any]], images: Tensor | None, tasks_seen: int
    ) -> None:
        """Log the features of some items."""
        features, images = features.detach().cpu(), None if images is None else images.cpu()
        self._for_each(lambda logger: logger.embedding(tag, features, columns, images, tasks_seen))

    def hparams(self, row: Row, tasks_seen: int) -> None:
        """Log the final numbers beside the settings."""
        self._for_each(lambda logger: logger.hparams(row, tasks_seen))

    def layout(self, spec: TaskSpec, distributions: Sequence[str]) -> None:
        """Arrange charts before the first row is logged."""
        self._for_each(lambda logger: logger.layout(spec, distributions))

    def flush(self) -> None:
        """Write out what is pending."""
        self.rows.flush()
        self.charts.flush()
        self._for_each(lambda logger: logger.flush())

    def failed(self, error: BaseException) -> None:
        """Tell every logger that the run ends by an error."""
        self._for_each(lambda logger: logger.failed(error))

    def close(self) -> None:
        """Close every logger, and write the rows once more as metrics.csv, a line for each number of tasks."""
        self._for_each(lambda logger: logger.close())
        self.rows.close()
        self.charts.close()
        write_csv(self.folder)

    def _for_each(self, act: Callable[[Logger], None]) -> None:
        """Call `act` with every named logger; one that fails ends the run or is dropped with a warning, as it asks."""
        for logger in list(self._named):
            try:
                act(logger)
            except Exception as error:
                if logger.failure_ends_run:
                    raise
                self._named.remove(logger)
                reason = " ".join(said(error).split())  # in one line
                log.warning(f"fsl: the logger {type(logger).__name__} failed and is left out: {reason}")


@contextmanager
def closing_all(every: Sequence[Loggers]) -> Iterator[None]:
    """Close all these loggers afterwards; after an error, failures to close are ignored and that error is raised."""
    try:
        yield
    except BaseException as error:
        for loggers in every:
            with suppress(Exception):
                loggers.failed(error)
            with suppress(Exception):
                loggers.close()
        raise
    for loggers in every:
        loggers.close()
