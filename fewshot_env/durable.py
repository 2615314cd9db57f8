"""Files that are whole or absent, after a kill and after a power cut: written aside, forced to the disk, renamed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write(file: Path, content: bytes) -> None:
    """Put `content` in place of `file`: at every moment the old or the new one stands there.

    Raises OSError, which names `file` and not what is written aside.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, file)
        sync(file.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def sync(path: Path) -> None:
    """Force a written file, or the names in a folder, to the disk (Windows knows neither)."""
    if os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
