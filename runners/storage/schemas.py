"""Schemas of the files in a run's folder: whatever does not match is refused with one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fewshot_env.errors import FewShotError, command
from fewshot_env.settings import fit
from runners.config.settings import Settings, upgraded

BOUND = 1e100
"""The largest score, duration or plotted number, so that squares are finite, too."""

NonNegativeInt = Annotated[int, Field(ge=0, le=2**53)]
PositiveInt = Annotated[int, Field(ge=1, le=2**53)]


def _encodable(text: str) -> str:
    """The text; raises ValueError for half of a surrogate pair, which cannot be drawn."""
    text.encode()
    return text


def _printable(text: str) -> str:
    """The text; raises ValueError for control characters and line breaks."""
    if not text.isprintable():
        raise ValueError("it is not printable")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
PrintableText = Annotated[str, AfterValidator(_printable)]
Duration = Annotated[float, Field(ge=0, le=BOUND, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=BOUND, allow_inf_nan=False)] | None
"""An accuracy or a mean squared error; None: not finite."""


class Record(BaseModel):
    """A part of a file; unknown keys are ignored."""

    model_config = ConfigDict(strict=True)


class Line(Record):
    """A line of a log."""

    tasks: NonNegativeInt


class RowLine(Line):
    """A line of metrics.jsonl: numbers by tag, finite or not."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Annotated[int, Field(ge=-(2**53), le=2**53)] | float]


class ChartLine(Line):
    """A line of charts.jsonl: a chart (agents.charts) by its name."""

    name: Text
    x_label: Text
    y_label: Text
    x: list[float]
    lines: dict[Text, list[float]]
    bands: dict[Text, Annotated[list[list[float]], Field(min_length=2, max_length=2)]]

    @model_validator(mode="after")
    def _of_one_length(self) -> ChartLine:
        curves = [*self.lines.values(), *(curve for band in self.bands.values() for curve in band)]
        if any(len(curve) != len(self.x) for curve in curves):
            raise ValueError("its curves are not as long as its x")
        return self


class RunSettings(Record):
    """The settings that every reader needs; make_plan checks the others."""

    env: str
    agent: str
    seed: int = Field(ge=0, lt=2**63)
    train_tasks: NonNegativeInt


class Config(Record):
    """config.json."""

    settings: RunSettings
    preset: Literal["paper", "quick"] = "paper"


class TestResult(Record):
    """What `fsl run` and `fsl eval` write of a test."""

    env: str
    agent: str
    metric: Literal["accuracy", "mse"]
    mean: Score
    ci95: Score
    median: Score
    tasks: PositiveInt
    diverged: NonNegativeInt
    episode_hash: PrintableText
    scores: list[Score]
    settings: RunSettings
    versions: dict[PrintableText, PrintableText]

    @model_validator(mode="after")
    def _of_one_test(self) -> TestResult:
        if len(self.scores) != self.tasks:
            raise ValueError(f"it has {len(self.scores)} scores of {self.tasks} tasks")
        finite = sum(score is not None for score in self.scores)
        if (self.mean is not None, self.ci95 is not None) != (finite > 0, finite > 1):
            raise ValueError(f"its mean and ci95 are not those of its {finite} finite scores")
        return self


class RunResult(TestResult):
    """result.json: also how the tested weights were trained; older files lack the time and the device."""

    trained_tasks: NonNegativeInt
    best_at_tasks: NonNegativeInt
    skipped_steps: NonNegativeInt = 0
    seconds: dict[str, Duration] = {}
    side_by_side: PositiveInt = 1
    device: PrintableText = ""
    preset: Literal["paper", "quick"] = "paper"


Model = TypeVar("Model", bound=Record)


def parse(text: str) -> Any:
    """The content of JSON; raises ValueError where it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} is not JSON") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def lines_of(file: Path) -> list[str]:
    """The lines of a log, unchecked; raises OSError where it cannot be read."""
    return file.read_text(errors="replace").splitlines()


def read_lines(model: type[Model], file: Path) -> list[Model]:
    """Every line of a log; raises FewShotError with its number for a line that fsl did not write."""
    found: list[Model] = []
    try:
        for line in lines_of(file):
            found.append(fit(model, parse(line)))
    except OSError as error:
        raise FewShotError(f"{file} cannot be read ({error.strerror or error}); put it back") from error
    except ValueError as error:
        raise FewShotError(
            f"{file} cannot be read: line {len(found) + 1} is not one that fsl wrote ({error}); remove that line"
        ) from error
    return found


def must_exist(folder: Path) -> None:
    """Raise FewShotError where there is no such folder."""
    if not folder.exists():
        raise FewShotError(f"there is no {folder}; name one of a run (fsl runs lists them)")


def read_settings(folder: Path) -> Settings:
    """The resolved settings of a run; raises FewShotError where the folder is not a run's."""
    return upgraded(_read_config(folder)["settings"])


def read_preset(folder: Path) -> str:
    """The preset that a run was started with; raises FewShotError where the folder is not a run's."""
    return str(_read_config(folder).get("preset", "paper"))


def _read_config(folder: Path) -> dict[str, Any]:
    must_exist(folder)
    try:
        content = parse((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise FewShotError(f"{folder} is not the folder of a run (no readable config.json)") from error
    try:
        fit(Config, content)
    except ValueError as error:
        raise FewShotError(f"{folder / 'config.json'} is not what fsl wrote ({error}); put that back") from error
    config: dict[str, Any] = content
    return config


def read_result(place: Path) -> dict[str, Any]:
    """The result of a finished run, given its folder, or a file that `fsl eval` wrote.

    Raises FewShotError where there is none, or it is not one that fsl wrote.
    """
    model, file = (RunResult, place / "result.json") if place.is_dir() else (TestResult, place)
    if not file.exists():
        again = command("fsl", "run", "--resume", file.parent)
        raise FewShotError(f"{file.parent} has no result yet; finish it with: {again}")
    try:
        content = parse(file.read_text())
        fit(model, content)
    except (OSError, ValueError) as error:
        again = f"remove it, then: {command('fsl', 'run', '--resume', place)}"
        what = again if model is RunResult else "test again with fsl eval"
        raise FewShotError(f"{file} is not a result that fsl wrote ({error}); {what}") from error
    result: dict[str, Any] = content
    return result


def drawable(value: float | None) -> bool:
    """Whether the value is a number that a plot can show."""
    return value is not None and math.isfinite(value) and abs(value) < BOUND
