"""Output of a command: its result on stdout, as text or as JSON; everything else on stderr, more or less of it."""

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

Emit = Callable[[Any, str], None]
"""Takes the result twice, as plain types for JSON and as text, and prints one of them."""


class _Stderr(logging.Handler):
    """Writes to the current sys.stderr, so that lines appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


log = logging.getLogger("fsl")
"""info: shown by default; debug: shown only with --verbose; warning: shown even with --quiet."""
log.addHandler(_Stderr())
log.setLevel(logging.INFO)
log.propagate = False


@contextmanager
def output(as_json: bool = False, quiet: bool = False, verbose: bool = False) -> Iterator[Emit]:
    """Set how much a command prints, and yield the function that prints its result.

    Args:
        as_json: the result is JSON; whatever else is printed meanwhile, by plug-ins too, goes to stderr.
        quiet: no progress.
        verbose: also settings, every row of the log, and tracebacks.

    Raises:
        FewShotError: for quiet and verbose at once.
    """
    if quiet and verbose:
        raise FewShotError("--quiet and --verbose contradict each other; give one of them")
    stdout, level = sys.stdout, log.level
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)

    def emit(result: Any, text: str) -> None:
        print(json.dumps(result, indent=1) if as_json else text, file=stdout, flush=True)

    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            yield emit
    except Exception:
        log.debug(traceback.format_exc().rstrip())
        raise
    finally:
        log.setLevel(level)


def verbosity_flags() -> list[str]:
    """The options with which another `fsl` process prints as much as this one."""
    return {logging.WARNING: ["--quiet"], logging.DEBUG: ["--verbose"]}.get(log.level, [])


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows of texts as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def terminal_width() -> int:
    """Columns of the terminal; unlimited where stdout is not one, since long lines are easier to search."""
    return max(shutil.get_terminal_size().columns, 20) if sys.stdout.isatty() else 10_000


def cut(text: str) -> str:
    """Every line cut to the terminal's width."""
    width = terminal_width()
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in text.splitlines())


def wrapped(text: str, indent: str = "") -> str:
    """Text broken into lines of the terminal's width."""
    return textwrap.fill(text, terminal_width(), initial_indent=indent, subsequent_indent=indent)


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
