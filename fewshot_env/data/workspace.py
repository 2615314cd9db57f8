"""Where a data set is prepared: a temporary folder, under a lock, that is renamed when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fewshot_env import durable
from fewshot_env.errors import FewShotError


@contextmanager
def workspace(folder: Path, name: str) -> Iterator[Path]:
    """Create a temporary folder for preparing a data set; it is removed afterwards, also after an error.

    Leftovers of killed preparations are removed first. An empty lock file stays.

    Args:
        folder: the folder of the prepared data sets.
        name: the data set's name.

    Raises:
        FewShotError: where `folder` cannot be written, or another process is preparing the same data set.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in [*folder.glob(".*.partial"), *folder.glob(".*.old")]:
            killed = leftover.name[1:].rpartition(".")[0]
            with suppress(Timeout), FileLock(_lock(folder, killed), timeout=0):
                _clear(folder, killed)
        with FileLock(_lock(folder, name), timeout=0):
            partial = folder / f".{name}.partial"
            try:
                partial.mkdir()
                yield partial
            finally:
                _clear(folder, name)
    except Timeout as error:
        raise FewShotError(f"another process is preparing {name} in {folder}; wait until it is done") from error
    except OSError as error:
        raise FewShotError(
            f"{folder / name} cannot be written ({error.strerror or error}); free space or choose another --data-dir"
        ) from error


def put_in_place(finished: Path, target: Path) -> None:
    """Rename the finished folder to `target`, replacing what is there; a link is replaced, not what it points to."""
    old = target.parent / f".{target.name}.old"
    if os.path.lexists(target):
        target.rename(old)
    finished.rename(target)
    durable.sync(target.parent)


def _clear(folder: Path, name: str) -> None:
    """Remove what a preparation left; restore an older version of the data set that it had moved away."""
    shutil.rmtree(folder / f".{name}.partial", ignore_errors=True)
    old = folder / f".{name}.old"
    if os.path.lexists(old) and not os.path.lexists(folder / name):
        old.rename(folder / name)
    if old.is_symlink():  # the folder it points to stays
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)


def _lock(folder: Path, name: str) -> Path:
    return folder / f".{name}.lock"
