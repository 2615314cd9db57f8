"""Weights & Biases as a logger. Its own environment variables say where to: WANDB_MODE=offline, WANDB_PROJECT, ..."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import wandb
from numpy.typing import NDArray

from runners.config.settings import Settings
from runners.loggers.base import Logger, Row


class WandB(Logger):
    """One run of W&B for each of ours, which a resumed run goes on with; the x-axis is the number of tasks seen."""

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        super().__init__(folder, settings, tasks_seen)
        name = re.sub(r"[^\w.-]+", "_", "-".join(folder.absolute().parts[-2:]))
        self._run = wandb.init(
            dir=str(folder), name=name, id=name, resume="allow", config=dict(settings), reinit="create_new"
        )
        self._run.define_metric("*", step_metric="tasks")

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log one row."""
        self._run.log({"tasks": tasks_seen, **row})

    def picture(self, tag: str, picture: NDArray[np.uint8], tasks_seen: int) -> None:
        """Log a picture [H, W, 3]."""
        self._run.log({"tasks": tasks_seen, tag: wandb.Image(picture)})

    def close(self) -> None:
        """Write out what is pending."""
        self._run.finish()
