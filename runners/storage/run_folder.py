"""The folder of a run.

config.json, metrics.jsonl and .csv, charts.jsonl, TensorBoard events, last.pt, best.pt, result.json; faults/ with
non-finite episodes; report.html and eval-*.json if they were requested.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from fewshot_env import durable
from fewshot_env.errors import FewShotError
from fewshot_env.pair import file_name
from runners.config.plan import Plan, versions
from runners.storage.schemas import must_exist


def create(log_dir: Path, plan: Plan) -> Path:
    """Create the folder of a new run and write its config; raises FewShotError where that is impossible."""
    return _create(log_dir, f"{_stem(plan)}-seed{plan.run.seed}", [plan])[0]


def create_group(log_dir: Path, plans: Sequence[Plan]) -> list[Path]:
    """Create a folder that holds one folder for each of these runs, which differ in their seeds; raises as `create`."""
    seeds = [plan.run.seed for plan in plans]
    return _create(log_dir, f"{_stem(plans[0])}-seeds{seeds[0]}-{seeds[-1]}", plans)


def create_named(folder: Path, plans: Sequence[Plan]) -> list[Path]:
    """Create `folder` with a folder `seedN` for each plan; raises FewShotError where that is impossible."""
    try:
        return _write_configs([folder / f"seed{plan.run.seed}" for plan in plans], plans)
    except OSError as error:
        raise FewShotError(f"the folder {folder} cannot be written ({error}); choose another") from error


def _stem(plan: Plan) -> str:
    agent = file_name(plan.run.agent)
    return f"{plan.pair.slug}-{agent}"


def _create(log_dir: Path, stem: str, plans: Sequence[Plan]) -> list[Path]:
    """The folder of a single plan, or the folders `seedN` of several within a new one."""
    stem = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    names = [stem] + [f"{stem}-{i}" for i in range(2, 1000)]
    parts = [""] if len(plans) == 1 else [f"seed{plan.run.seed}" for plan in plans]
    aside = log_dir / f".{stem}.{os.getpid()}.partial"
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        _write_configs([aside / part for part in parts], plans)
        whole = next(log_dir / name for name in names if _moved(aside, log_dir / name))
    except OSError as error:
        raise FewShotError(
            f"the log directory {log_dir} cannot be written ({error}); choose another --log-dir"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [whole / part for part in parts]


def _write_configs(folders: list[Path], plans: Sequence[Plan]) -> list[Path]:
    for plan, folder in zip(plans, folders, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", {"settings": plan.settings, "preset": plan.preset, "versions": versions()})
    return folders


def members(folder: Path) -> list[Path]:
    """The folders of runs in a folder: itself, or one for each seed; raises FewShotError where there is none."""
    if (folder / "config.json").exists():
        return [folder]
    must_exist(folder)
    named = re.search(r"-seeds(\d+)-(\d+)-", folder.name)
    made = (f"seed{i}" for i in range(int(named[1]), int(named[2]) + 1)) if named else ()
    for lost in chain(made, sorted(place.name for place in folder.glob("seed*/"))):
        if not (folder / lost / "config.json").exists():
            raise FewShotError(f"{folder / lost} has lost its config.json; put it back, or name the others one by one")
    found = sorted(folder.glob("seed*/config.json"), key=lambda file: (len(file.parent.name), file.parent.name))
    if not found:
        raise FewShotError(f"{folder} is not the folder of a run (no readable config.json)")
    return [file.parent for file in found]


def group_of(folders: Sequence[Path]) -> Path:
    """The folder that `members` takes for these runs."""
    return folders[0] if len(folders) == 1 else folders[0].parent


def _moved(aside: Path, folder: Path) -> bool:
    """Give a filled folder its name; False where that name is taken."""
    try:
        aside.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    return True


def write_json(file: Path, content: Any) -> None:
    """Write JSON so that `file` is whole or absent."""
    write_text(file, json.dumps(content, indent=1) + "\n")


def write_text(file: Path, content: str) -> None:
    """Write text so that `file` is whole or absent."""
    durable.write(file, content.encode(errors="backslashreplace"))
