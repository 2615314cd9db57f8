"""Unpack zip, tar and tar.gz archives without trusting them."""

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

MOST_MEMBERS = 500_000  # the largest known set has 60,000 images
MOST_BYTES = 20 * 2**30  # CUB unpacks to 1.2 GiB
MOST_HEADER = 2**24
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
    ValueError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


def told_apart(file: Path) -> None:
    """Raise FewShotError for a web page saved as data, and for an empty file."""
    with file.open("rb") as stream:
        start = stream.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise FewShotError(
            f"{file} is a web page, not data: its download failed; get it again, for example in a browser"
        )
    if not start:
        raise FewShotError(f"{file} is empty: its download failed; get it again")


def is_archive(file: Path) -> bool:
    """Whether `file` begins as a zip, tar or gzip file does."""
    with file.open("rb") as stream:
        start = stream.read(265)
    return start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")) or start[257:262] == b"ustar"


def unpack(archive: Path, into: Path) -> None:
    """Unpack `archive` below the folder `into`.

    Raises FewShotError for what is no archive, for a truncated or damaged one, and for one with members outside
    `into`, links, devices, a password, more than MOST_MEMBERS members or more than MOST_BYTES bytes.
    """
    told_apart(archive)
    into.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, into)
        else:
            _untar(archive, into)
    except _Unsafe as error:
        raise FewShotError(f"{archive} is not safe to unpack: {error}; get it from its authors") from error
    except DAMAGE as error:
        raise FewShotError(
            f"{archive} is truncated, damaged or no zip, tar or tar.gz ({error or 'it ends early'}); get it again"
        ) from error
    except OSError as error:
        raise FewShotError(
            f"{archive} can not be unpacked into {into.parent} ({error.strerror or error}); free space, or "
            "choose another --data-dir"
        ) from error


class _Unsafe(Exception):
    """What an honest archive does not hold."""


class _Budget:
    """Counts members and bytes, and refuses names that leave the folder."""

    def __init__(self) -> None:
        self.members = self.bytes = 0

    def spend(self, name: str, size: int) -> None:
        if not name:
            raise _Unsafe("it has a member without a name")
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
            raise _Unsafe(f"its member {name[:80]!r} leads out of the folder")
        self.members, self.bytes = self.members + 1, self.bytes + size
        if self.members > MOST_MEMBERS or self.bytes > MOST_BYTES:
            raise _Unsafe(f"it holds more than {MOST_MEMBERS} members or {MOST_BYTES / 2**30:.0f} GiB")


def _unzip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members, budget = opened.infolist(), _Budget()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _Unsafe(f"its member {member.filename[:80]!r} is a link or a device")
            if member.flag_bits & 1:
                raise _Unsafe("it has a password")
            budget.spend(member.filename, member.file_size)
        for member in members:
            opened.extract(member, into)


def _untar(archive: Path, into: Path) -> None:
    with archive.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = _Careful(gzip.GzipFile(fileobj=raw) if zipped else raw)
        with tarfile.open(fileobj=stream, mode="r:") as opened:
            budget = _Budget()
            for member in opened:
                if not (member.isfile() or member.isdir()):
                    raise _Unsafe(f"its member {member.name[:80]!r} is a link or a device")
                budget.spend(member.name, member.size)
                try:
                    opened.extract(member, into, filter="data")
                except tarfile.FilterError as error:
                    raise _Unsafe(str(error)) from error
            stream.seek(opened.offset)
            if len(stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                raise EOFError("it ends early")
        if zipped:
            shutil.copyfileobj(stream, _Nowhere())  # to the end, where the checksum stands


class _Careful:
    """A stream that refuses the huge reads with which a forged tar header would fill the memory."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, at most MOST_HEADER."""
        if not 0 <= size <= MOST_HEADER:
            raise _Unsafe(f"it has a header of {size} bytes")
        return self._read(size)


class _Nowhere:
    def write(self, _: bytes) -> None:
        pass
