"""Runs: the runs that a folder holds, found by their resolved settings, whatever their folders are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewshot_env.datasets import DATASETS
from fewshot_env.errors import FewShotError
from runners.config.plan import NON_SEMANTIC_KEYS, make_plan
from runners.config.settings import Settings, upgraded
from runners.evaluation.result import short_hash
from runners.loggers.json_lines import read_rows
from runners.reproduce.machinery.grid import Cell, Scale
from runners.storage import run_folder
from runners.storage.schemas import drawable, read_result, read_settings

IGNORED_KEYS = ("seed", *NON_SEMANTIC_KEYS)
"""Settings in which the runs of one cell may differ: the seed, and what changes no score."""


class Runs:
    """All runs below a folder, by their settings and seed."""

    def __init__(self, out: Path, data_dir: str | None) -> None:
        self.out, self.data_dir = out, data_dir
        self._resolved: dict[str, Settings] = {}
        self._folders: dict[str, dict[int, Path]] = {}
        for folder in _run_folders(out):
            self._add(folder)

    def _add(self, folder: Path) -> None:
        try:
            settings = read_settings(folder)
        except FewShotError:
            return
        identity, seed = self.known_identity(settings), settings["seed"]
        if identity is None:
            return
        seeds = self._folders.setdefault(identity, {})
        if seed not in seeds or not (seeds[seed] / "result.json").exists():
            seeds[seed] = folder

    def resolved(self, settings: Settings) -> Settings:
        """The settings that the runs of a cell share, with this version's names and every default filled in.

        Raises FewShotError where this version cannot run them.
        """
        chosen = {k: v for k, v in upgraded(settings).items() if k not in IGNORED_KEYS}
        key = short_hash(chosen)
        if key not in self._resolved:
            prepared = "env.data_dir" in settings or str(settings.get("env")) in DATASETS
            where = {"env.data_dir": self.data_dir} if self.data_dir and prepared else {}
            resolved = make_plan(chosen | where).settings
            self._resolved[key] = {k: v for k, v in resolved.items() if k not in IGNORED_KEYS}
        return self._resolved[key]

    def identity(self, settings: Settings) -> str:
        """A short hash of `resolved(settings)`: runs count as the same where it is equal."""
        return short_hash(self.resolved(settings))

    def known_identity(self, settings: Settings) -> str | None:
        """The identity of settings read from a file.

        None for settings of custom code, which reading them must not execute, and for settings that this version cannot
        run: another version's, or of data that are not prepared.
        """
        if ":" in f"{settings.get('agent')} {settings.get('env')}":
            return None
        try:
            return self.identity(settings)
        except FewShotError:
            return None

    def cell_identity(self, cell: Cell, scale: Scale) -> str:
        """The identity of a cell's runs."""
        return self.identity(cell.run_settings(scale, 0, self.data_dir))

    def of(self, cell: Cell, scale: Scale) -> dict[int, Path]:
        """The folders of a cell's runs by seed, finished or not."""
        folders = self._folders.get(self.cell_identity(cell, scale), {})
        return {seed: folder for seed, folder in sorted(folders.items()) if seed < scale.seeds}

    def check_settings(self, cell: Cell, scale: Scale) -> None:
        """Raise FewShotError where a cell cannot be run: its data hold too little, for example."""
        settings = cell.run_settings(scale, 0, self.data_dir)
        self.resolved(settings)
        if cell.target is not None:
            self.resolved(settings | {"env": f"{cell.settings['env']}->{cell.target}"})

    def create(self, cell: Cell, scale: Scale, seeds: Sequence[int]) -> list[Path]:
        """The folders of a cell's runs with these seeds; missing ones are made in `cells`."""
        have = self.of(cell, scale)
        absent = [seed for seed in seeds if seed not in have]
        plans = [make_plan(cell.run_settings(scale, seed, self.data_dir)) for seed in absent]
        name = f"{cell.folder}-{self.cell_identity(cell, scale)}"
        for folder in run_folder.create_named(self.out / "cells" / name, plans):
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
            of_best_weights = content.get("best_at_tasks") == own["best_at_tasks"]  # not of earlier ones
            if of_best_weights and self.identity(content["settings"]) == wanted:
                return content
        return None


def best_validation(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The validation whose weights a finished run kept: mean, median, diverged; None where none was finite."""
    row = read_rows(folder).get(result["best_at_tasks"], {})
    row = {tag: number for tag, number in row.items() if drawable(number)}
    if "val/diverged" not in row:
        raise FewShotError(
            f"{folder / 'metrics.jsonl'} has lost the validation after {result['best_at_tasks']} tasks; restore it"
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
