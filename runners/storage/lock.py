"""Locks: a run's folder is locked while a process works in it, and by the kernel, so a dead process holds no lock."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fewshot_env import durable
from fewshot_env.errors import FewShotError, command

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What drives without file locks answer, some of NFS among them."""

LOCK, HOLDER = ".lock", ".holder.json"

MOMENT = 0.5
"""How many seconds to wait for a lock: `fsl runs` holds it for less, to see whether it is free."""


class InUse(FewShotError):
    """Another process holds a run's folder."""


@contextmanager
def locked(folders: Sequence[Path]) -> Iterator[None]:
    """Lock the folders of runs, and delete the partial files that a killed process left there.

    Raises InUse, which names the process, where another holds a lock; FewShotError where a folder cannot be written.
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
                if error.errno in NO_LOCKS:
                    raise FewShotError(
                        f"the drive of {folder} has no file locks ({error.strerror}), without which two processes "
                        "could write one run; choose a --log-dir on another drive"
                    ) from error
                raise FewShotError(
                    f"the run {folder} cannot be written ({error.strerror or error}); fix that, then continue with: "
                    + command("fsl", "run", "--resume", folder)
                ) from error
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder without permission to write
        return False


def _ourselves() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}


def _holder(folder: Path) -> str:
    """The process that holds the lock, as it wrote into the folder."""
    try:
        who = json.loads((folder / HOLDER).read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it has only just begun
        return "another process"
