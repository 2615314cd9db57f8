"""Earlier reports: runs that are known only by a report's JSON; their folders are elsewhere, or gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from fewshot_env.errors import FewShotError
from fewshot_env.settings import fit
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.grid import Cell, Scored
from runners.reproduce.machinery.runs import Runs
from runners.reproduce.machinery.summary import CountedRun
from runners.storage.schemas import PrintableText, Record, parse

Key = tuple[str, str | None, Scored]
"""What runs must share to count for a cell: the identity of their settings, the target, and what is scored."""


class CellRecord(Record):
    """A cell in a report's JSON; resolved: all settings of its runs, which reports of older versions lack."""

    settings: dict[str, Any]
    resolved: dict[str, Any] | None = None
    target: str | None
    runs: list[CountedRun]

    @model_validator(mode="after")
    def _each_seed_once(self) -> CellRecord:
        if len({run.seed for run in self.runs}) < len(self.runs):
            raise ValueError("it has a seed twice")
        return self


class StatisticsRecord(Record):
    """What a report's numbers are computed from."""

    score: Scored


class ReportRecord(Record):
    """A report's JSON."""

    experiment: PrintableText
    scale: PrintableText
    scale_settings: dict[str, Any]
    metric: Literal["mse", "accuracy"]
    statistics: StatisticsRecord
    cells: list[CellRecord]

    @model_validator(mode="after")
    def _scores_fit_the_metric(self) -> ReportRecord:
        scores = [score for cell in self.cells for run in cell.runs for score in (run.score, run.median)]
        if self.metric == "accuracy" and any(score is not None and score > 1 for score in scores):
            raise ValueError("it has an accuracy above 1")
        return self


class EarlierReports:
    """The runs of earlier reports by cell and seed; where two reports list a run, the first counts."""

    def __init__(self, files: Sequence[Path], experiments: Sequence[Experiment], scale: str, runs: Runs) -> None:
        """Read the files.

        Raises FewShotError for a file that is no report, or has no run of these experiments at this scale.
        """
        self._by_key: dict[Key, dict[int, CountedRun]] = {}
        self._runs, self.files = runs, files
        wanted = {self._key(e, cell, scale) for e in experiments for cell in e.cells}
        for file in files:
            report = _read(file)
            listed = {key: known for key, known in self._listed(file, report).items() if key in wanted and known}
            if not listed:
                raise FewShotError(
                    f"{file}, the {report.statistics.score}s of {report.experiment} at {report.scale} scale, has no "
                    f"run that counts for {', '.join(e.name for e in experiments)} at {scale} scale; leave it out"
                )
            for key, known in listed.items():
                of_cell = {run.seed: run.model_copy(update={"folder": None}) for run in known}
                self._by_key[key] = of_cell | self._by_key.get(key, {})

    def of(self, experiment: Experiment, cell: Cell, scale: str) -> Mapping[int, CountedRun]:
        """The runs of a cell by seed."""
        return self._by_key.get(self._key(experiment, cell, scale), {})

    def _key(self, experiment: Experiment, cell: Cell, scale: str) -> Key:
        return self._runs.cell_identity(cell, experiment.scales[scale]), cell.target, experiment.scored

    def _listed(self, file: Path, report: ReportRecord) -> dict[Key, list[CountedRun]]:
        """The runs of a report, by what this version makes of their settings; without cells that it cannot run."""
        listed: dict[Key, list[CountedRun]] = {}
        for cell in report.cells:
            settings = cell.settings | report.scale_settings if cell.resolved is None else cell.resolved
            identity = self._runs.known_identity(settings)
            key = identity and (identity, cell.target, report.statistics.score)
            if key in listed:
                raise _no_report(file, "it has a cell twice")
            if key:
                listed[key] = cell.runs
        return listed


def _read(file: Path) -> ReportRecord:
    try:
        return fit(ReportRecord, parse(file.read_text()))
    except OSError as error:
        raise FewShotError(f"{file} cannot be read ({error.strerror or error}); name the .json of a report") from error
    except ValueError as error:
        raise _no_report(file, error) from error


def _no_report(file: Path, reason: object) -> FewShotError:
    return FewShotError(f"{file} is not the .json of a report ({reason}); name one that fsl reproduce wrote")
