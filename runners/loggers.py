"""Where a run's numbers go. A logger has one method for rows; TensorBoard's takes pictures and histograms too."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewshot_env import durable
from runners.team import ALONE, Team

Row = Mapping[str, float]


class Logger(Protocol):
    """Takes rows of named numbers at a number of tasks seen."""

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log one row."""
        ...

    def flush(self) -> None:
        """Write out what is pending: a checkpoint follows, from which a resumed run goes on."""
        ...

    def close(self) -> None:
        """Write out what is pending, and end."""
        ...


class JSONLLogger:
    """One JSON object a row: {"tasks": n, "train/loss": ...}.

    Of an older part the first `rows` stay, none of them beyond `tasks_seen`; the rest is logged again.
    """

    def __init__(self, file: Path, tasks_seen: int, rows: int | None = None) -> None:
        kept = []
        if file.exists():
            for line in file.read_text(errors="replace").splitlines()[:rows]:
                try:
                    if json.loads(line)["tasks"] <= tasks_seen:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError, RecursionError):
                    break  # a line cut off by a kill
            durable.write(file, "".join(kept).encode())
        self._stream = file.open("a")

    def write(self, tasks_seen: int, row: Row) -> None:
        """Append one row."""
        self._stream.write(json.dumps({"tasks": tasks_seen, **row}) + "\n")
        self._stream.flush()

    def flush(self) -> None:
        """Force the rows to the disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class TensorBoardLogger:
    """TensorBoard's event files; the x-axis is the number of tasks seen."""

    def __init__(self, folder: Path, tasks_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = _unless_tensorboard
        self._writer: Any = SummaryWriter(str(folder), purge_step=tasks_seen + 1 if tasks_seen else None)

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log one row of scalars."""
        for tag, value in row.items():
            self._writer.add_scalar(tag, value, tasks_seen)

    def picture(self, tag: str, picture: NDArray[np.uint8] | None, tasks_seen: int) -> None:
        """Log a picture [H, W, 3], if there is one."""
        if picture is not None:
            self._writer.add_image(tag, picture, tasks_seen, dataformats="HWC")

    def distribution(self, tag: str, values: Tensor, tasks_seen: int) -> None:
        """Log a histogram."""
        self._writer.add_histogram(tag, values.float().cpu().numpy(), tasks_seen)

    def text(self, tag: str, text: str) -> None:
        """Log a text (Markdown)."""
        self._writer.add_text(tag, text, 0)

    def hyperparameters(self, settings: Mapping[str, Any], results: Row, tasks_seen: int) -> None:
        """Log the settings beside the final numbers, for the HPARAMS page."""
        plain = {k: v if isinstance(v, bool | int | float | str) else json.dumps(v) for k, v in settings.items()}
        self._writer.add_hparams(plain, dict(results), run_name=".", global_step=tasks_seen)

    def flush(self) -> None:
        """Write out what is pending."""
        self._writer.flush()

    def close(self) -> None:
        """Write out what is pending, and end."""
        self._writer.close()


def _unless_tensorboard(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread keeps its error (a full disk, say) for our next write, which tells it: once is enough."""
    if type(failed.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failed)


class Loggers:
    """The loggers of one run: JSON lines and TensorBoard."""

    def __init__(self, folder: Path, tasks_seen: int, rows: int | None = None) -> None:
        self.board = TensorBoardLogger(folder, tasks_seen)
        self._all: list[Logger] = [JSONLLogger(folder / "metrics.jsonl", tasks_seen, rows), self.board]

    def write(self, tasks_seen: int, row: Row) -> None:
        """Give a row to every logger."""
        for logger in self._all:
            logger.write(tasks_seen, row)

    def flush(self) -> None:
        """Have every logger write out what is pending."""
        for logger in self._all:
            logger.flush()

    def close(self) -> None:
        """Close every logger."""
        for logger in self._all:
            logger.close()


class Meter:
    """Means of rows between two log entries; plain numbers, so that a checkpoint can hold it."""

    def __init__(self, sums: dict[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = sums or {}

    def add(self, prefix: str, row: Row, weight: float = 1) -> None:
        """Take in one row; numbers that are not finite are left out (the step was skipped and counted so)."""
        for name, value in row.items():
            if not math.isfinite(value):
                continue
            total = self.sums.setdefault(f"{prefix}/{name}", [0.0, 0.0])
            total[0] += value * weight
            total[1] += weight

    def take(self, team: Team = ALONE) -> dict[str, float]:
        """The means since the last `take`, over what all processes of the team took in."""
        whole: dict[str, list[float]] = {}
        for sums in team.gather(self.sums):
            for tag, (total, count) in sums.items():
                one = whole.setdefault(tag, [0.0, 0.0])
                one[0] += total
                one[1] += count
        self.sums = {}
        return {tag: total / count for tag, (total, count) in whole.items()}
