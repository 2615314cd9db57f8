"""A run's folder is locked while a process works in it. The kernel holds the lock, so a dead process holds none."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fewshot_env import durable
from fewshot_env.errors import FewShotError

LOCK, HOLDER = ".lock", ".holder.json"

MOMENT = 0.5
"""Seconds: `fsl runs` holds a lock for less, to see whether it is free."""


class InUse(FewShotError):
    """Another process holds a run's folder."""


@contextmanager
def locked(folders: Sequence[Path]) -> Iterator[None]:
    """Hold the folders of runs, and clear away what a killed process had half written there.

    Raises InUse where another process holds one (it says which), FewShotError where a folder can not be written.
    """
    with ExitStack() as held:
        for folder in folders:
            try:
                held.enter_context(FileLock(folder / LOCK, timeout=MOMENT))
                for left in folder.glob(".*.partial"):
                    if not left.name.startswith(".eval-"):  # a test that another process is writing
                        left.unlink(missing_ok=True)
                durable.write(folder / HOLDER, json.dumps(_ourselves()).encode())
            except Timeout as error:
                raise InUse(f"the run {folder} is in use by {_holder(folder)}; wait until it ends") from error
            except OSError as error:
                raise FewShotError(
                    f"the run {folder} can not be written ({error.strerror or error}); mend that, then continue with: "
                    f"fsl run --resume {folder}"
                ) from error
        yield


def is_held(folder: Path) -> bool:
    """Whether a process works in the folder, which it then holds locked."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that is not ours to write
        return False


def _ourselves() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}


def _holder(folder: Path) -> str:
    """Who holds the lock, as it said itself."""
    try:
        who = json.loads((folder / HOLDER).read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it has only just begun
        return "another process"
