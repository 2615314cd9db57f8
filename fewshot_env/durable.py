"""Atomic file writes: after a kill or a power cut, a file is either complete or absent."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""What network and shared drives (CIFS, vboxsf, FUSE) answer where a folder is to be forced to the disk."""


def write(file: Path, content: bytes) -> None:
    """Replace `file` by `content` atomically: write a temporary file, force it to the disk, rename it.

    Raises:
        OSError: where the file cannot be written; it names `file`, not the temporary file.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        sync(file.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync(path: Path) -> None:
    """Force a written file, or the names in a folder, to the disk (does nothing on Windows)."""
    if os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_FOLDER_SYNC):
            raise
    finally:
        os.close(number)
