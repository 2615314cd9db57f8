"""Earlier: runs that an earlier report counted, known by its .json alone; their folders lie elsewhere, or are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from fewshot_env.errors import FewShotError
from runners.reproduce.counted import Run
from runners.reproduce.grid import Cell, Experiment, Score
from runners.reproduce.runs import Runs
from runners.storage.schemas import Record, Words, fit, parse

Scored = tuple[str, str | None, Score]
"""What the runs of a cell have in common: their identity, the target, and what is scored."""


class CellRecord(Record):
    """A cell in a report's JSON; identity: `Runs.identity` of its runs."""

    identity: str
    target: str | None
    runs: list[Run]

    @model_validator(mode="after")
    def _each_seed_once(self) -> CellRecord:
        if len({run.seed for run in self.runs}) < len(self.runs):
            raise ValueError("it has a seed twice")
        return self


class StatisticsRecord(Record):
    """What a report computed."""

    score: Score


class ReportRecord(Record):
    """A report's JSON."""

    experiment: Words
    scale: Words
    metric: Literal["mse", "accuracy"]
    statistics: StatisticsRecord
    cells: list[CellRecord]

    @model_validator(mode="after")
    def _of_a_metric(self) -> ReportRecord:
        if len({(cell.identity, cell.target) for cell in self.cells}) < len(self.cells):
            raise ValueError("it has a cell twice")
        scores = [score for cell in self.cells for run in cell.runs for score in (run.score, run.median)]
        if self.metric == "accuracy" and any(score is not None and score > 1 for score in scores):
            raise ValueError("it has an accuracy above 1")
        return self


class Earlier:
    """The runs of earlier reports, by what they are runs of and by seed; of one seed, the first report's."""

    def __init__(self, files: Sequence[Path], experiments: Sequence[Experiment], scale: str, runs: Runs) -> None:
        """Raises FewShotError for what is no report, or has no run of these experiments at this scale."""
        self._found: dict[Scored, dict[int, Run]] = {}
        self._runs, self.files = runs, files
        wanted = {self._scored(e, cell, scale) for e in experiments for cell in e.cells}
        for file in files:
            report = _read(file)
            here = {(cell.identity, cell.target, report.statistics.score): cell.runs for cell in report.cells}
            here = {scored: known for scored, known in here.items() if scored in wanted and known}
            if not here:
                raise FewShotError(
                    f"{file}, the {report.statistics.score}s of {report.experiment} at {report.scale} scale, has no "
                    f"run that counts for {', '.join(e.name for e in experiments)} at {scale} scale; leave it out"
                )
            for scored, known in here.items():
                of_it = {run.seed: run.model_copy(update={"folder": None}) for run in known}
                self._found[scored] = of_it | self._found.get(scored, {})

    def of(self, experiment: Experiment, cell: Cell, scale: str) -> Mapping[int, Run]:
        """The runs of a cell by seed."""
        return self._found.get(self._scored(experiment, cell, scale), {})

    def _scored(self, experiment: Experiment, cell: Cell, scale: str) -> Scored:
        return self._runs.cell_identity(cell, experiment.scales[scale]), cell.target, experiment.score


def _read(file: Path) -> ReportRecord:
    try:
        return fit(ReportRecord, parse(file.read_text()))
    except OSError as error:
        raise FewShotError(f"{file} can not be read ({error.strerror or error}); name the .json of a report") from error
    except ValueError as error:
        raise FewShotError(
            f"{file} is not the .json of a report ({error}); name one that fsl reproduce wrote"
        ) from error
