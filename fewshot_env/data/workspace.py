"""A preparation works aside, under a lock, and puts the finished store in place by renaming."""

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
    """A folder for preparing the store `name` below `folder`; it is gone afterwards, whatever happens.

    What killed preparations left behind is cleared away first; an empty lock file stays.
    Raises FewShotError where `folder` can not be written, or where another process prepares the same store.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in [*folder.glob(".*.partial"), *folder.glob(".*.old")]:
            dead = left.name[1:].rpartition(".")[0]
            with suppress(Timeout), FileLock(_lock(folder, dead), timeout=0):
                _clear(folder, dead)
        with FileLock(_lock(folder, name), timeout=0):
            aside = folder / f".{name}.partial"
            try:
                aside.mkdir()
                yield aside
            finally:
                _clear(folder, name)
    except Timeout as error:
        raise FewShotError(f"another process prepares {name} in {folder}; wait until it is done") from error
    except OSError as error:
        raise FewShotError(
            f"{folder / name} can not be written ({error.strerror or error}); free space or choose another --data-dir"
        ) from error


def put_in_place(finished: Path, target: Path) -> None:
    """Rename the finished folder to `target`, which it replaces: a link, that is, and not what it points to."""
    old = target.parent / f".{target.name}.old"
    if os.path.lexists(target):
        target.rename(old)
    finished.rename(target)
    durable.sync(target.parent)


def _clear(folder: Path, name: str) -> None:
    """Remove what a preparation left; an older store that it had just moved away comes back."""
    shutil.rmtree(folder / f".{name}.partial", ignore_errors=True)
    old = folder / f".{name}.old"
    if os.path.lexists(old) and not os.path.lexists(folder / name):
        old.rename(folder / name)
    if old.is_symlink():  # what it points to is not ours
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)


def _lock(folder: Path, name: str) -> Path:
    return folder / f".{name}.lock"
