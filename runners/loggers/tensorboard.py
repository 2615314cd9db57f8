"""TensorBoard as a logger: scalars, pictures, histograms, charts of several curves, the projector and HPARAMS."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewshot_env.episode import TaskSpec
from runners.config.settings import Settings
from runners.loggers.base import Logger, Row, quantile_row


class TensorBoard(Logger):
    """TensorBoard's event files in the run's folder; the x-axis is the number of tasks seen."""

    failure_ends_run = True  # its files are in the run's folder: a full disk, for example

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hook = threading.excepthook
        threading.excepthook = self._on_thread_error
        self._writer: Any = SummaryWriter(str(folder), purge_step=tasks_seen + 1 if tasks_seen else None)
        super().__init__(folder, settings, tasks_seen)
        rows = "\n".join(f"| {key} | `{value}` |" for key, value in settings.items())
        self._writer.add_text("config", f"| setting | value |\n|---|---|\n{rows}", 0)

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log numbers."""
        for tag, value in row.items():
            self._writer.add_scalar(tag, value, tasks_seen)

    def picture(self, tag: str, picture: NDArray[np.uint8], tasks_seen: int) -> None:
        """Log a picture."""
        self._writer.add_image(tag, picture, tasks_seen, dataformats="HWC")

    def layout(self, spec: TaskSpec, distributions: Sequence[str]) -> None:
        """Arrange the page CUSTOM SCALARS: curves that belong together share a chart."""
        val, train = f"val/{spec.metric}", "train/loss" if spec.kind == "regression" else "train/score"
        learning = {
            f"{spec.metric}, train and val": ["Multiline", [f"^{train}$", f"^{val}$"]],
            f"{spec.metric}, val, 95 % interval": ["Margin", [val, "val/low", "val/high"]],
        }
        inner = {
            f"{what} by inner step ({split})": ["Multiline", [rf"^{prefix}/{tag}_\d+$"]]
            for what, tag, sources in (
                ("support loss", "loss", (("train", "inner"), ("val", "val_inner"))),
                ("norm of the gradient", "grad_norm", (("val", "val_inner"),)),
                ("norm of the update", "update_norm", (("val", "val_inner"),)),
            )
            for split, prefix in sources
        }
        outer = {"norm of the meta-gradient": ["Multiline", ["^train/grad_norm$"]]}
        learned = {name: ["Margin", [f"{name}/median", f"{name}/low", f"{name}/high"]] for name in distributions}
        pages = {"learning": learning, "inner loop": inner, "outer loop": outer}
        self._writer.add_custom_scalars(pages | ({"learned, median within 5 % and 95 %": learned} if learned else {}))

    def histogram(self, tag: str, values: Tensor, tasks_seen: int) -> None:
        """Log a histogram, and its median, 5 % and 95 % quantile as scalars."""
        self._writer.add_histogram(tag, values.numpy(), tasks_seen)
        self.write(tasks_seen, quantile_row(tag, values))

    def embedding(
        self, tag: str, features: Tensor, columns: Mapping[str, Sequence[Any]], images: Tensor | None, tasks_seen: int
    ) -> None:
        """Log the features of some items for the page PROJECTOR."""
        rows = [list(map(str, row)) for row in zip(*columns.values(), strict=True)]
        self._writer.add_embedding(features, rows, images, tasks_seen, tag, list(columns))

    def hparams(self, row: Row, tasks_seen: int) -> None:
        """Log the settings beside the final numbers for the page HPARAMS, which compares runs.

        They go to a subfolder "test", so that these are the page's only metrics. torch's summary of the experiment is
        left out, so that the page itself collects the settings and puts those that differ first.
        """
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        given = {name: value for name, value in self.settings.items() if value is not None}
        plain = {name: v if isinstance(v, bool | int | float | str) else json.dumps(v) for name, v in given.items()}
        with SummaryWriter(str(self.folder / "test")) as writer:
            for part in hparams(plain, dict(row))[1:]:
                writer.file_writer.add_summary(part, tasks_seen)
            for tag, value in row.items():
                writer.add_scalar(tag, value, tasks_seen)

    def flush(self) -> None:
        """Write out what is pending."""
        self._writer.flush()

    def close(self) -> None:
        """Write out what is pending, and end."""
        self._writer.close()
        if threading.excepthook == self._on_thread_error:
            threading.excepthook = self._hook

    def _on_thread_error(self, failed: threading.ExceptHookArgs) -> None:
        """Report a thread's error as before, except of TensorBoard's: our next write raises that one (a full disk)."""
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            self._hook(failed)
