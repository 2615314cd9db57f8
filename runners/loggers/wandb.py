"""Weights & Biases as a logger; its environment variables WANDB_MODE=offline, WANDB_PROJECT, ... configure it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from numpy.typing import NDArray
from torch import Tensor

from fewshot_env.episode import TaskSpec
from runners.config.settings import Settings
from runners.loggers.base import Logger, Row


class WandB(Logger):
    """One W&B run for each run of fsl, which a resumed run continues; the x-axis is the number of tasks seen."""

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        super().__init__(folder, settings, tasks_seen)
        name, note = re.sub(r"[^\w.-]+", "_", "-".join(folder.absolute().parts[-2:])), folder / "wandb-run.txt"
        if not note.exists():  # two folders of one name are two runs, and a folder that was renamed is the same
            note.write_text(uuid.uuid4().hex)
        self._exit_code = 0
        self._run = wandb.init(
            dir=str(folder), name=name, id=note.read_text(), resume="allow", config=dict(settings), reinit="create_new"
        )
        self._run.define_metric("*", step_metric="tasks")

    def layout(self, spec: TaskSpec, distributions: Sequence[str]) -> None:
        """Have the table of runs show the best validation, not the last."""
        best = "min" if spec.kind == "regression" else "max"
        self._run.define_metric(f"val/{spec.metric}", step_metric="tasks", summary=best)

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log numbers."""
        self._run.log({"tasks": tasks_seen, **row})

    def picture(self, tag: str, picture: NDArray[np.uint8], tasks_seen: int) -> None:
        """Log a picture."""
        self._run.log({"tasks": tasks_seen, tag: wandb.Image(picture)})

    def histogram(self, tag: str, values: Tensor, tasks_seen: int) -> None:
        """Log a histogram."""
        self._run.log({"tasks": tasks_seen, tag: wandb.Histogram(values.tolist())})

    def embedding(
        self, tag: str, features: Tensor, columns: Mapping[str, Sequence[Any]], images: Tensor | None, tasks_seen: int
    ) -> None:
        """Log a table, which W&B shows as a 2D projection: the labels, the image if there is one, then the features."""
        shown = {name: list(column) for name, column in columns.items()}
        if images is not None:
            pixels = (images.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().byte().cpu().numpy()
            shown["image"] = [wandb.Image(image) for image in pixels]
        names: list[str | int] = [*shown, *(f"feature {i}" for i in range(features.shape[1]))]
        rows = [[*row, *values] for *row, values in zip(*shown.values(), features.tolist(), strict=True)]
        self._run.log({"tasks": tasks_seen, tag: wandb.Table(names, rows)})

    def hparams(self, row: Row, tasks_seen: int) -> None:
        """Put the final numbers into the summary, which the table of runs shows beside the settings."""
        self._run.summary.update(dict(row))

    def failed(self, error: BaseException) -> None:
        """Show the run as failed."""
        self._exit_code = 1

    def close(self) -> None:
        """Write out what is pending."""
        self._run.finish(exit_code=self._exit_code)
