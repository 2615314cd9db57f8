"""Grid: a figure or table of the paper is a grid of cells, each an agent in one setting, run with several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fewshot_env.datasets import DATASETS
from fewshot_env.pair import file_name
from runners.config.settings import Settings
from runners.reproduce.machinery.statistics import Reference

Scored = Literal["test", "validation"]
"""What a run's score is of: its test, or its best validation."""


@dataclass(frozen=True)
class Scale:
    """How much of the paper's training and testing is done: seeds per cell, and settings that replace the paper's."""

    name: str
    seeds: int
    settings: Mapping[str, Any]

    def first(self, seeds: int | None) -> Scale:
        """The same scale with at most so many seeds; None: all of them."""
        return self if seeds is None else replace(self, seeds=min(seeds, self.seeds))

    @property
    def description(self) -> str:
        """One line that stands on every page and picture."""
        if not self.settings:
            return f"Full scale: the published numbers of tasks, {self.seeds} runs a cell"
        tasks = f"{self.settings['train_tasks']:,} training tasks and {self.settings['test_tasks']:,} test tasks"
        return f"QUICK SCALE, not a result to cite: {self.seeds} runs a cell of {tasks}, far below the paper's"


@dataclass(frozen=True)
class Cell:
    """One agent in one setting.

    Args:
        row: What the paper calls the agent.
        column: What the paper calls the setting.
        settings: Flat settings of its runs, without the seed and the scale's; the others are the paper's defaults.
        target: An environment on whose test tasks the trained runs are tested too; that test is then the score.
        reference: The published value; None: there is none.
    """

    row: str
    column: str
    settings: Mapping[str, Any]
    target: str | None = None
    reference: Reference | None = None

    @property
    def name(self) -> str:
        """The cell in messages."""
        return f"{self.row}, {self.column}"

    @property
    def metric(self) -> Literal["mse", "accuracy"]:
        """What its scores are."""
        return "mse" if self.settings["env"] == "sine" else "accuracy"

    @property
    def folder(self) -> str:
        """A name for the folder of the runs that are trained for this cell."""
        words = [str(self.settings["env"]), str(self.settings["agent"])]
        words += [f"{key.split('.')[1]}{value}" for key, value in self.settings.items() if "." in key]
        return file_name("-".join(words).replace("->", "-to-"))

    def run_settings(self, scale: Scale, seed: int, data_dir: str | None) -> Settings:
        """The settings of one run."""
        stored = data_dir is not None and self.settings["env"] in DATASETS
        where = {"env.data_dir": data_dir} if stored else {}
        return {**self.settings, **scale.settings, **where, "seed": seed}
