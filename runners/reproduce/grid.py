"""Grid: a figure or table of the paper as cells, each an agent in one setting with several seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fewshot_env.datasets import DATASETS
from runners.config.settings import Settings

Kind = Literal["figure", "table"]
Score = Literal["test", "validation"]


@dataclass(frozen=True)
class Scale:
    """How much of the paper's training and testing is done: seeds, and settings that replace the paper's."""

    name: str
    seeds: int
    settings: Mapping[str, Any]

    def first(self, seeds: int | None) -> Scale:
        """The same with no more than so many seeds, if a number is given."""
        return self if seeds is None else replace(self, seeds=min(seeds, self.seeds))

    @property
    def words(self) -> str:
        """The scale in one line, for every artefact."""
        if not self.settings:
            return f"Full scale: the published numbers of tasks, {self.seeds} runs a cell"
        tasks = f"{self.settings['train_tasks']:,} training tasks and {self.settings['test_tasks']:,} test tasks"
        return f"QUICK SCALE, not a result to cite: {self.seeds} runs a cell of {tasks}, far below the paper's"


@dataclass(frozen=True)
class Cell:
    """One agent in one setting.

    row, column: what the paper calls the agent and the setting. settings: flat, without the seed and the scale.
    target: an environment on whose test tasks the trained runs are tested as well; the score is then that one.
    """

    row: str
    column: str
    settings: Mapping[str, Any]
    target: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row}, {self.column}"

    @property
    def folder(self) -> str:
        """A name for the folder of the runs that are trained for this cell."""
        words = [str(self.settings["env"]), str(self.settings["agent"])]
        words += [f"{key.split('.')[1]}{value}" for key, value in self.settings.items() if "." in key]
        return re.sub(r"[^\w.+-]+", "_", "-".join(words).replace("->", "-to-"))

    def plan_settings(self, scale: Scale, seed: int, data_dir: str | None) -> Settings:
        """The settings of one run."""
        stored = data_dir is not None and self.settings["env"] in DATASETS
        where = {"env.data_dir": data_dir} if stored else {}
        return {**self.settings, **scale.settings, **where, "seed": seed}


@dataclass(frozen=True)
class Experiment:
    """A figure or table: its cells, what is scored, and the scales at which it can be carried out."""

    name: str
    kind: Kind
    title: str
    cells: Sequence[Cell]
    scales: Mapping[str, Scale]
    score: Score = "test"
    data: tuple[str, ...] = ()
    timed: bool = False
    """Whether it is about time."""

    @property
    def metric(self) -> str:
        """What its scores are."""
        return "mse" if self.cells[0].settings["env"] == "sine" else "accuracy"

    @property
    def columns(self) -> list[str]:
        """The settings, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))
