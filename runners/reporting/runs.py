"""`fsl runs`: the runs below a folder, how far each is, and its score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from fewshot_env.settings import fit
from runners.evaluation.statistics import over_seeds, short
from runners.storage.lock import is_held
from runners.storage.schemas import RowLine, lines_of, parse, read_result, read_settings


@dataclass(frozen=True)
class ListedRun:
    """A run, or the runs of several seeds."""

    folder: Path
    env: str
    n_way: str | int | None
    """Classes per task: a number, or a range from which it is sampled; None for regression."""
    n_shot: str | int | None
    """Support items per class, likewise."""
    agent: str
    seeds: tuple[int, ...]
    started: datetime
    state: str
    """finished, running or interrupted."""
    tasks: int
    """Training tasks so far, of the seed that has the fewest."""
    train_tasks: int
    score: dict[str, Any] | None
    """Metric, mean, 95 % interval (over tasks, or over seeds by Student's t), and how many test tasks diverged."""

    def as_plain(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return vars(self) | {"folder": str(self.folder), "started": self.started.isoformat(), "seeds": [*self.seeds]}

    def row(self) -> tuple[str, ...]:
        """The cells of a table."""
        state = self.state if self.state == "finished" else f"{self.state} {self.tasks}/{self.train_tasks}"
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        score = short(self.score) if self.score else ""
        score += f", {self.score['diverged']} diverged" if self.score and self.score["diverged"] else ""
        parts = ((self.n_way, "way"), (self.n_shot, "shot"))
        shape = " ".join(f"{n}-{what}" for n, what in parts if n is not None)
        return f"{self.started:%Y-%m-%d %H:%M}", self.env, shape, self.agent, seeds, state, score, str(self.folder)


def list_runs(log_dir: Path) -> list[ListedRun]:
    """The runs below a folder, newest last; raises FewShotError where there is no such folder."""
    if not log_dir.is_dir():
        raise FewShotError(f"there is no folder {log_dir}; fsl run makes it, or name the --log-dir of your runs")
    groups: dict[Path, list[Path]] = {}
    for config in log_dir.rglob("config.json"):
        folder = config.parent
        groups.setdefault(folder.parent if _is_seed(folder) else folder, []).append(folder)
    found = [run for where, folders in groups.items() if (run := _read(where, folders)) is not None]
    return sorted(found, key=lambda run: (run.started, run.folder))


def _is_seed(folder: Path) -> bool:
    return folder.name.startswith("seed") and folder.name[4:].isdigit() and not (folder.parent / "config.json").exists()


def _read(where: Path, folders: list[Path]) -> ListedRun | None:
    """The run of one or several seeds in a folder; None where fsl did not write it."""
    known = {folder: found for folder in folders if (found := _or_none(read_settings, folder))}
    if not known:
        return None
    folders, settings = list(known), list(known.values())
    results = [_or_none(read_result, folder) for folder in folders]
    done = [r for r in results if r]
    seen = [r["trained_tasks"] if r else _tasks_seen(f) for r, f in zip(results, folders, strict=True)]
    if len(done) == len(folders):
        state = "finished"
    else:
        state = "running" if any(is_held(folder) for folder in folders) else "interrupted"
    score = over_seeds(done) if len(folders) > 1 and done else done[0] if done else None
    return ListedRun(
        where,
        settings[0]["env"],
        _range(settings[0].get("env.n_way")),
        _range(settings[0].get("env.n_shot")),
        settings[0]["agent"],
        tuple(sorted(s["seed"] for s in settings)),
        datetime.fromtimestamp(min((folder / "config.json").stat().st_mtime for folder in folders)),
        state,
        min(seen),
        settings[0]["train_tasks"],
        None if score is None else {name: score[name] for name in ("metric", "mean", "ci95", "diverged")},
    )


def _range(number: Any) -> str | int | None:
    """A number of ways or shots; "3-10" where it is sampled."""
    return "-".join(map(str, number)) if isinstance(number, list) else number


def _or_none(read: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any] | None:
    """What `read` returns; None where it raises, because the file is missing or fsl did not write it."""
    try:
        return read(folder)
    except FewShotError:
        return None


def _tasks_seen(folder: Path) -> int:
    """The number of tasks in the last row of the log; 0 where it cannot be read."""
    try:
        return max((fit(RowLine, parse(line)).tasks for line in lines_of(folder / "metrics.jsonl")[-1:]), default=0)
    except (OSError, ValueError):
        return 0
