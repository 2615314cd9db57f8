"""Runs: the ones that a folder already holds, known by their resolved settings, whatever their folders are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners.config.plan import FREE, make_plan
from runners.config.settings import Settings
from runners.evaluation.result import short_hash
from runners.loggers.base import read_rows
from runners.reproduce.grid import Cell, Scale
from runners.storage import run_folder as run_dir
from runners.storage.schemas import drawable, read_result, read_settings

NO_MATTER = ("seed", *FREE)
"""Settings that tell runs of one cell apart, or change no score."""


class Runs:
    """All runs below a folder, by their settings and seed."""

    def __init__(self, out: Path, data_dir: str | None) -> None:
        self.out, self.data_dir = out, data_dir
        self._names: dict[str, str] = {}
        self._found: dict[str, dict[int, Path]] = {}
        for folder in _run_folders(out):
            self._add(folder)

    def _add(self, folder: Path) -> None:
        try:
            settings = read_settings(folder)
            if ":" in f"{settings.get('agent')} {settings.get('env')}":
                return  # of code of one's own, which looking at runs must not execute
            name, seed = self.identity(settings), settings["seed"]
        except (FewShotError, KeyError):
            return  # another version's, or of data that are not here: no cell of ours
        seeds = self._found.setdefault(name, {})
        if seed not in seeds or not (seeds[seed] / "result.json").exists():
            seeds[seed] = folder

    def identity(self, settings: Settings) -> str:
        """What runs with these settings have in common: all that matters, resolved by this version."""
        chosen = {k: v for k, v in settings.items() if k not in NO_MATTER}
        key = short_hash(chosen)
        if key not in self._names:
            where = {"env.data_dir": self.data_dir} if self.data_dir and "env.data_dir" in settings else {}
            resolved = make_plan(chosen | where).settings
            self._names[key] = short_hash({k: v for k, v in resolved.items() if k not in NO_MATTER})
        return self._names[key]

    def cell_identity(self, cell: Cell, scale: Scale) -> str:
        """The identity of a cell's runs."""
        return self.identity(cell.plan_settings(scale, 0, self.data_dir))

    def of(self, cell: Cell, scale: Scale) -> dict[int, Path]:
        """The folders of a cell's runs by seed, finished or not."""
        name = self.cell_identity(cell, scale)
        return {seed: folder for seed, folder in sorted(self._found.get(name, {}).items()) if seed < scale.seeds}

    def check(self, cell: Cell, scale: Scale) -> None:
        """Raise FewShotError where a cell can not be carried out: its data hold too little, say."""
        settings = cell.plan_settings(scale, 0, self.data_dir)
        self.identity(settings)
        if cell.target is not None:
            self.identity(settings | {"env": f"{cell.settings['env']}->{cell.target}"})

    def create(self, cell: Cell, scale: Scale, seeds: Sequence[int]) -> list[Path]:
        """The folders of a cell's runs with these seeds; made, below `cells`, where they are not there yet."""
        have = self.of(cell, scale)
        absent = [seed for seed in seeds if seed not in have]
        plans = [make_plan(cell.plan_settings(scale, seed, self.data_dir)) for seed in absent]
        name = f"{cell.folder}-{self.cell_identity(cell, scale)}"
        for folder in run_dir.create_named(self.out / "cells" / name, plans):
            self._add(folder)
        have = self.of(cell, scale)
        return [have[seed] for seed in seeds]

    def result(self, cell: Cell, folder: Path) -> dict[str, Any] | None:
        """The finished run's result that a cell scores: its own test, or that on the cell's target."""
        if not (folder / "result.json").exists():
            return None
        own = read_result(folder)
        if cell.target is None:
            return own
        wanted = self.identity(read_settings(folder) | {"env": f"{cell.settings['env']}->{cell.target}"})
        for file in sorted(folder.glob(f"eval-{cell.target}-*.json")):
            content = read_result(file)
            of_these = content.get("best_at_tasks") == own["best_at_tasks"]  # not of weights on the way to them
            if of_these and self.identity(content["settings"]) == wanted:
                return content
        return None


def best_validation(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The validation whose weights a finished run kept: mean, median, diverged; None where none was finite."""
    row = read_rows(folder).get(result["best_at_tasks"], {})
    row = {tag: number for tag, number in row.items() if drawable(number)}
    if "val/diverged" not in row:
        raise FewShotError(
            f"{folder / 'metrics.jsonl'} has lost the validation after {result['best_at_tasks']} tasks; put it back"
        )
    return {
        "mean": row.get(f"val/{result['metric']}"),
        "median": row.get("val/median"),
        "diverged": row["val/diverged"],
    }


def _run_folders(out: Path) -> Iterator[Path]:
    for pattern in ("*/config.json", "*/seed*/config.json", "cells/*/seed*/config.json"):
        for file in sorted(out.glob(pattern)):
            yield file.parent
