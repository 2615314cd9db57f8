"""What a command says: its result on stdout, as words or as JSON, and everything else on stderr, more or less of it."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from fewshot_env.errors import FewShotError

Tell = Callable[[Any, str], None]
"""Takes the result twice: as plain types for JSON, and in words."""


class _Stderr(logging.Handler):
    """Writes to what sys.stderr is at the time, so that lines stand above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


log = logging.getLogger("fsl")
"""info: what a user wants to see as it happens; debug: with --verbose alone; warning: with --quiet too."""
log.addHandler(_Stderr())
log.setLevel(logging.INFO)
log.propagate = False


@contextmanager
def voice(as_json: bool = False, quiet: bool = False, verbose: bool = False) -> Iterator[Tell]:
    """Yield what tells the result. With as_json whatever else is printed goes to stderr."""
    if quiet and verbose:
        raise FewShotError("--quiet and --verbose contradict each other; give one of them")
    out, level = sys.stdout, log.level
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)

    def tell(content: Any, words: str) -> None:
        print(json.dumps(content, indent=1) if as_json else words, file=out, flush=True)

    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            yield tell
    except Exception:
        log.debug(traceback.format_exc().rstrip())
        raise
    finally:
        log.setLevel(level)


def flags() -> list[str]:
    """The options with which another process says as much as this one."""
    return {logging.WARNING: ["--quiet"], logging.DEBUG: ["--verbose"]}.get(log.level, [])


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows of texts as lines with aligned columns."""
    most = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{text:<{size}}" for text, size in zip(row, most, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def width() -> int:
    """Columns of the terminal that stdout is; without one unlimited, as long lines are easier to search."""
    return max(shutil.get_terminal_size().columns, 20) if sys.stdout.isatty() else 10_000


def cut(text: str) -> str:
    """Every line cut to the terminal's width."""
    most = width()
    return "\n".join(line if len(line) <= most else line[: most - 1] + "…" for line in text.splitlines())


def wrapped(text: str, indent: str = "") -> str:
    """Text in lines of the terminal's width."""
    return textwrap.fill(text, width(), initial_indent=indent, subsequent_indent=indent)


def duration(seconds: float) -> str:
    """A time in two units at most: "45 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
