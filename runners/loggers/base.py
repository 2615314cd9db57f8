"""The contract of a logger, and finding one by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.charts import quantiles
from fewshot_env import plugins
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, command, suggest
from runners.config.settings import Settings

Row = Mapping[str, float]


class Logger(ABC):
    """Receives what one run logs. A subclass defines `write`; every other method does nothing by default.

    Args:
        folder: the run's folder.
        settings: the resolved settings of the run, flat dotted keys to plain values.
        tasks_seen: 0 for a new run; for a resumed run the number of training tasks at which it continues.

    Example:
        >>> class Lines(Logger):
        ...     def write(self, tasks_seen, row):
        ...         print(tasks_seen, dict(row), file=(self.folder / "lines.txt").open("a"))

        fsl run --env sine --agent maml --logger my_module:Lines
    """

    failure_ends_run = False
    """Whether an exception of this logger ends the run; otherwise the run warns once and goes on without the logger."""

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        self.folder, self.settings = folder, settings

    @abstractmethod
    def write(self, tasks_seen: int, row: Row) -> None:
        """Log numbers.

        Args:
            tasks_seen: training tasks so far; the x-axis.
            row: tag -> number, for example {"train/loss": 1.2}.
        """

    def picture(self, tag: str, picture: NDArray[np.uint8], tasks_seen: int) -> None:
        """Log a picture, uint8 [H, W, 3]."""
        return

    def histogram(self, tag: str, values: Tensor, tasks_seen: int) -> None:
        """Log how values are distributed.

        Args:
            tag: what they are, for example "rates/head".
            values: finite floats [n] on the CPU, n > 0.
            tasks_seen: training tasks so far.
        """
        return

    def embedding(
        self, tag: str, features: Tensor, columns: Mapping[str, Sequence[Any]], images: Tensor | None, tasks_seen: int
    ) -> None:
        """Log the features of some items.

        Args:
            tag: what the items are, for example "test_episode".
            features: floats [n, F].
            columns: name -> a label for each item, for example its class.
            images: the items as floats [n, C, H, W] in [0, 1] with C = 1 or 3; None where they are no images.
            tasks_seen: training tasks so far.
        """
        return

    def hparams(self, row: Row, tasks_seen: int) -> None:
        """Log the final numbers beside `self.settings`, so that runs can be compared; they were also given to `write`.

        Args:
            row: tag -> number, for example {"test/mse": 0.4}.
            tasks_seen: training tasks in all.
        """
        return

    def layout(self, spec: TaskSpec, distributions: Sequence[str]) -> None:
        """Arrange charts before the first row is logged.

        Args:
            spec: the kind of task and its metric, which name the tags of `write`.
            distributions: the tags that `histogram` will receive.
        """
        return

    def flush(self) -> None:
        """Write out what is pending: a checkpoint follows, from which a resumed run continues."""
        return

    def failed(self, error: BaseException) -> None:
        """Called before `close` where the run ends by an error, or because it was asked to stop."""
        return

    def close(self) -> None:
        """Write out what is pending, and end."""
        return


QUANTILES = ("low", "median", "high")


def quantile_row(tag: str, values: Tensor) -> dict[str, float]:
    """A histogram as three numbers: the 5 %, 50 % and 95 % quantile as "tag/low", "tag/median" and "tag/high"."""
    return {f"{tag}/{name}": value for name, value in zip(QUANTILES, quantiles(values).tolist(), strict=True)}


LOGGERS = {
    "tensorboard": "runners.loggers.tensorboard:TensorBoard",
    "wandb": "runners.loggers.wandb:WandB",
    "mlflow": "runners.loggers.mlflow:MLflow",
}


def find_logger(name: str) -> type[Logger]:
    """The class of a logger: a built-in one, an entry point of the group `fsl.loggers`, or "module:Class".

    Raises:
        FewShotError: where there is none, or its package is missing or broken.
    """
    known = {point.name: point.value for point in plugins.points("fsl.loggers")} | LOGGERS
    where = known.get(name, name)
    if ":" not in where:
        raise FewShotError(f"unknown logger {name!r}{suggest(name, known)}; known: {', '.join(known)}, or module:Class")
    try:
        found = plugins.load(where, f"logger {name!r}")
    except FewShotError as error:
        if not isinstance(missing := error.__cause__, ModuleNotFoundError):
            raise
        remedy = command("pip", "install", f"fewshot[{name}]") if name in LOGGERS else "install it"
        raise FewShotError(f"the logger {name!r} needs the package {missing.name!r}: {remedy}") from missing
    if not (isinstance(found, type) and issubclass(found, Logger)):
        raise FewShotError(f"the logger {name!r} is not a class derived from runners.loggers.Logger")
    return found
