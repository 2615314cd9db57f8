"""MLflow as a logger; its environment variables MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where it logs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from torch import Tensor

from fewshot_env.errors import FewShotError
from runners.config.settings import Settings
from runners.loggers.base import Logger, Row, quantile_row


class MLflow(Logger):
    """One MLflow run for each run of fsl, which a resumed run continues; the step is the number of tasks seen.

    The settings are its parameters, beside which MLflow shows the last value of every metric: the test's numbers.
    """

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        super().__init__(folder, settings, tasks_seen)
        self._client, note = MlflowClient(), folder / "mlflow-run.txt"
        if not note.exists():
            run = self._client.create_run(self._experiment(), run_name=folder.name)
            for key, value in settings.items():
                self._client.log_param(run.info.run_id, key, value)
            note.write_text(run.info.run_id)
        self._run, self._status = note.read_text(), "FINISHED"
        self._client.update_run(self._run, status="RUNNING")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fewshot")
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another process was faster
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        if known.lifecycle_stage == "deleted":
            raise FewShotError(
                f"MLflow's experiment {name!r} was deleted; restore it (mlflow experiments restore --experiment-id "
                f"{known.experiment_id}), or name another: MLFLOW_EXPERIMENT_NAME"
            )
        return str(known.experiment_id)

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log numbers."""
        for tag, value in row.items():
            self._client.log_metric(self._run, _allowed(tag), value, step=tasks_seen)

    def picture(self, tag: str, picture: NDArray[np.uint8], tasks_seen: int) -> None:
        """Log a picture; MLflow shows those of one tag with a slider."""
        self._client.log_image(self._run, picture, key=_allowed(tag), step=tasks_seen)

    def histogram(self, tag: str, values: Tensor, tasks_seen: int) -> None:
        """Log quantiles, as MLflow has no histograms."""
        self.write(tasks_seen, quantile_row(tag, values))

    def failed(self, error: BaseException) -> None:
        """Show the run as failed, or as killed where it was asked to stop."""
        asked = isinstance(error, KeyboardInterrupt) or getattr(error, "code", 0) > 128
        self._status = "KILLED" if asked else "FAILED"

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run, self._status)


def _allowed(tag: str) -> str:
    """The tag in characters that MLflow allows."""
    return re.sub(r"[^A-Za-z0-9_\-./ ]", "_", tag)
