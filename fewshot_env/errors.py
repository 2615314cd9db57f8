"""FewShotError: an error in the user's input. Its message says what was wrong, what was expected and what to do.

`command` writes the command lines in messages.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import traceback
from collections.abc import Iterable
from pathlib import Path


class FewShotError(ValueError):
    """Bad input. The command line prints the message and exits with code 2.

    The message is one line of printable characters: line breaks and control characters, for example from file names
    in an archive, become spaces. Spaces stay, so that a command in it can be pasted.
    """

    def __init__(self, message: str) -> None:
        printable = "".join(c if c.isprintable() else "\n" for c in message)
        super().__init__(re.sub(r"\s*\n\s*", " ", printable).strip())


class SettingError(FewShotError):
    """A setting that is unknown or has a wrong value; `key` is the setting's name."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is most likely a misspelling of; None where none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.65)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name nearest to `name`, or "" where none is close."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""


def command(*words: str | Path) -> str:
    """A command line that can be pasted: a shell reads these words in it.

    A relative path that begins with "-", which would be read as an option, gets "./" before it.
    """
    plain = (f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words)
    return " ".join(shlex.quote(word) if word.isprintable() else _quoted_by_bytes(word) for word in plain)


def _quoted_by_bytes(word: str) -> str:
    r"""A word with control characters, as bash and zsh read it: $'a\x0ab'."""
    kept = [c if c.isprintable() and c not in "\\'" else "" for c in word]
    parts = (k or "".join(f"\\x{byte:02x}" for byte in os.fsencode(c)) for k, c in zip(kept, word, strict=True))
    return f"$'{''.join(parts)}'"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that memory ran out: Python's, numpy's or torch's."""
    words = str(error).lower()
    from_torch = isinstance(error, RuntimeError) and ("allocate memory" in words or "out of memory" in words)
    cause = error.__cause__
    return isinstance(error, MemoryError) or from_torch or (cause is not None and is_out_of_memory(cause))


def said(error: BaseException) -> str:
    """Describe an error of someone else's code in one line: its type, its message and the line that raised it."""
    if isinstance(error, FewShotError):
        return str(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}".rstrip(": ") + place
