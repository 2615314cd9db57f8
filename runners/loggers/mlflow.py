"""MLflow as a logger. Its own environment variables say where to: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow import MlflowClient

from runners.config.settings import Settings
from runners.loggers.base import Logger, Row


class MLflow(Logger):
    """One run of MLflow for each of ours, which a resumed run goes on with; the step is the number of tasks seen."""

    def __init__(self, folder: Path, settings: Settings, tasks_seen: int) -> None:
        super().__init__(folder, settings, tasks_seen)
        self._client, note = MlflowClient(), folder / "mlflow-run.txt"
        if not note.exists():
            run = self._client.create_run(self._experiment(), run_name=folder.name)
            for key, value in settings.items():
                self._client.log_param(run.info.run_id, key, value)
            note.write_text(run.info.run_id)
        self._run = note.read_text()

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fewshot")
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known else self._client.create_experiment(name)

    def write(self, tasks_seen: int, row: Row) -> None:
        """Log one row."""
        for tag, value in row.items():
            self._client.log_metric(self._run, tag, value, step=tasks_seen)

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run)
