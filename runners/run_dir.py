"""The folder of a run: config.json, metrics.jsonl, TensorBoard events, last.pt, best.pt, result.json."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners.plan import Plan, versions
from runners.settings import Settings


def create(log_dir: Path, plan: Plan) -> Path:
    """Make the folder of a new run and write its config; raises FewShotError where that can not be."""
    agent = re.sub(r"[^\w.+-]+", "_", plan.run.agent)
    stem = f"{plan.pair.slug}-{agent}-seed{plan.run.seed}-{datetime.now():%Y%m%d-%H%M%S}"
    names = [stem] + [f"{stem}-{i}" for i in range(2, 1000)]
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        folder = next(log_dir / name for name in names if _made(log_dir / name))
        write_json(folder / "config.json", {"settings": plan.settings, "versions": versions()})
    except OSError as error:
        raise FewShotError(
            f"the log directory {log_dir} can not be written ({error}); choose another --log-dir"
        ) from error
    return folder


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def read_settings(folder: Path) -> Settings:
    """The resolved settings of a run; raises FewShotError where the folder is not a run's."""
    try:
        settings = json.loads((folder / "config.json").read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FewShotError(f"{folder} is not the folder of a run (no readable config.json)") from error
    if not isinstance(settings, dict):
        raise FewShotError(f"{folder / 'config.json'} holds no settings; it was not written by fsl")
    return settings


def write_json(file: Path, content: Any) -> None:
    """Write JSON aside and rename, so that `file` is whole or absent."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        aside.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)
