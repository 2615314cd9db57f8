"""Earlier: runs that an earlier report counted, known by its .json alone; their folders lie elsewhere, or are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_env.errors import FewShotError
from runners.records import Record, fit, parse
from runners.reproduce.counted import Run, RunRecord, from_record
from runners.reproduce.grid import Cell, Experiment
from runners.reproduce.runs import Runs


class CellRecord(Record):
    """A cell in a report's JSON; identity: `Runs.identity` of its runs."""

    row: str
    column: str
    identity: str
    runs: list[RunRecord]


class ReportRecord(Record):
    """A report's JSON."""

    experiment: str
    scale: str
    cells: list[CellRecord]


class Earlier:
    """The runs of earlier reports, by experiment, cell and seed; of one seed, the first report's."""

    def __init__(self, files: Sequence[Path], experiments: Sequence[Experiment], scale: str, runs: Runs) -> None:
        """Raises FewShotError for what is no report, or one of other experiments, scales or settings."""
        self._found: dict[tuple[str, str, str], dict[int, Run]] = {}
        known = {experiment.name: experiment for experiment in experiments}
        for file in files:
            report = _read(file)
            if report.experiment not in known or report.scale != scale:
                raise FewShotError(
                    f"{file} is a report of {report.experiment} at {report.scale} scale, but {', '.join(known)} at "
                    f"{scale} scale is asked for; leave it out"
                )
            self._add(file, report, known[report.experiment], runs)

    def _add(self, file: Path, report: ReportRecord, experiment: Experiment, runs: Runs) -> None:
        scale = experiment.scales[report.scale]
        of = {(cell.row, cell.column): runs.cell_identity(cell, scale) for cell in experiment.cells}
        for cell in report.cells:
            if of.get((cell.row, cell.column)) != cell.identity:
                raise FewShotError(
                    f"{file}: its {cell.row}, {cell.column} has other settings than this version's; leave it out"
                )
            found = self._found.setdefault((experiment.name, cell.row, cell.column), {})
            for run in cell.runs:
                found.setdefault(run.seed, from_record(run))

    def of(self, experiment: Experiment, cell: Cell) -> Mapping[int, Run]:
        """The runs of a cell by seed."""
        return self._found.get((experiment.name, cell.row, cell.column), {})


def _read(file: Path) -> ReportRecord:
    try:
        return fit(ReportRecord, parse(file.read_text()))
    except OSError as error:
        raise FewShotError(f"{file} can not be read ({error.strerror or error}); name the .json of a report") from error
    except ValueError as error:
        raise FewShotError(f"{file} is not the .json of a report ({error}); name one of fsl reproduce") from error
