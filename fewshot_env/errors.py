"""The one error that a user can mend: it says what was wrong, what was expected and what to do."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class FewShotError(ValueError):
    """Bad input. The message is one line of printable characters, whatever names files and archives bring into it.

    The command line prints it and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join("".join(c if c.isprintable() else " " for c in message).split()))


class SettingError(FewShotError):
    """A setting that is unknown, or whose value is wrong. key: the setting's."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return " (did you mean 'x'?)" for the known name nearest to `name`, after a prefix, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {prefix + near[0]!r}?)" if near else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came of, is that memory did not suffice: Python's, numpy's, or torch's own."""
    words = str(error).lower()
    told = isinstance(error, RuntimeError) and ("allocate memory" in words or "out of memory" in words)
    cause = error.__cause__
    return isinstance(error, MemoryError) or told or (cause is not None and is_out_of_memory(cause))


def said(error: BaseException) -> str:
    """One line about an error of foreign code: its type, its message and the line that raised it."""
    if isinstance(error, FewShotError):
        return str(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}".rstrip(": ") + place
