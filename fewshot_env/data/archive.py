"""Unpack zip, tar and tar.gz archives as untrusted input: links and paths outside the target folder are rejected."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fewshot_env.errors import FewShotError

MAX_MEMBERS = 500_000  # the largest known data set has 60,000 images
MAX_BYTES = 20 * 2**30  # CUB unpacks to 1.2 GiB
MAX_READ = 2**24  # bytes read at once; a forged tar header asks for more
DAMAGE_ERRORS = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
    ValueError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


def reject_failed_download(file: Path) -> None:
    """Raise FewShotError where `file` is an HTML page saved under the name of a data file, or empty."""
    with file.open("rb") as stream:
        start = stream.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise FewShotError(
            f"{file} is a web page, not data: its download failed; get it again, for example in a browser"
        )
    if not start:
        raise FewShotError(f"{file} is empty: its download failed; get it again")


def is_archive(file: Path) -> bool:
    """Whether `file` is a zip, tar or gzip file, judged by its first bytes."""
    with file.open("rb") as stream:
        start = stream.read(265)
    return start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")) or start[257:262] == b"ustar"


class Budget:
    """How much archives may hold, all of one data set together; counts members and bytes, and rejects unsafe paths."""

    def __init__(self) -> None:
        self.members = self.bytes = 0

    def count(self, name: str, size: int) -> None:
        """Take note of a member."""
        if not name:
            raise _UnsafeArchive("it has a member without a name")
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
            raise _UnsafeArchive(f"its member {name[:80]!r} leads outside the folder")
        self.members, self.bytes = self.members + 1, self.bytes + size
        if self.members > MAX_MEMBERS or self.bytes > MAX_BYTES:
            raise _UnsafeArchive(f"it holds more than {MAX_MEMBERS} members or {MAX_BYTES / 2**30:.0f} GiB")


def unpack(archive: Path, into: Path, budget: Budget) -> None:
    """Unpack a zip, tar or tar.gz file. Backslashes in the names of a zip, as Windows writes them, separate folders.

    Args:
        archive: the file.
        into: the folder to unpack into; it is created where missing.
        budget: what the archives of one data set may hold together.

    Raises:
        FewShotError: where the file is not an archive, truncated or damaged; where it has members outside `into`,
            links, devices or a password; and where it holds more than MAX_MEMBERS members or MAX_BYTES bytes.
    """
    reject_failed_download(archive)
    into.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, into, budget)
        else:
            _untar(archive, into, budget)
    except _UnsafeArchive as error:
        raise FewShotError(
            f"{archive} is not safe to unpack: {error}; get it from its authors, or unpack it yourself and "
            "give the folder"
        ) from error
    except NotImplementedError as error:
        raise FewShotError(
            f"{archive} is packed in a way that is not read here ({error}); unpack it yourself and give the folder"
        ) from error
    except DAMAGE_ERRORS as error:
        raise FewShotError(
            f"{archive} is truncated, damaged or not a zip, tar or tar.gz ({error or 'it ends early'}); get it again"
        ) from error
    except OSError as error:
        raise FewShotError(
            f"{archive} cannot be unpacked into {into.parent} ({error.strerror or error}); free space, or "
            "choose another --data-dir"
        ) from error


class _UnsafeArchive(Exception):
    """An archive holds something that a data set never needs."""


def _unzip(archive: Path, into: Path, budget: Budget) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _UnsafeArchive(f"its member {member.filename[:80]!r} is a link or a device")
            if member.flag_bits & 1:
                raise _UnsafeArchive("it has a password")
            budget.count(member.filename, member.file_size)
        for member in members:
            member.filename = member.filename.replace("\\", "/")
            opened.extract(member, into)


def _untar(archive: Path, into: Path, budget: Budget) -> None:
    with archive.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = _BoundedReader(gzip.GzipFile(fileobj=raw) if zipped else raw)
        with tarfile.open(fileobj=stream, mode="r:") as opened:
            for member in opened:
                if not (member.isfile() or member.isdir()):
                    raise _UnsafeArchive(f"its member {member.name[:80]!r} is a link or a device")
                budget.count(member.name, member.size)
                try:
                    opened.extract(member, into, filter="data")
                except tarfile.FilterError as error:
                    raise _UnsafeArchive(str(error)) from error
            stream.seek(opened.offset)
            if len(stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                raise EOFError("it ends early")
        if zipped:
            shutil.copyfileobj(stream, _Discard())  # to the end, where gzip verifies its checksum


class _BoundedReader:
    """A stream that rejects large reads, with which a forged tar header would fill the memory."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, at most MAX_READ."""
        if not 0 <= size <= MAX_READ:
            raise _UnsafeArchive(f"it has a header of {size} bytes")
        return self._read(size)


class _Discard:
    def write(self, _: bytes) -> None:
        pass
