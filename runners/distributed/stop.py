"""Stopping a run when it is asked to: at the next safe point, in all processes of a group at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing torch takes seconds, and the command line needs RunEnded only
    from runners.distributed.process_group import ProcessGroup


class RunEnded(Exception):
    """A run ended without a result and everything about it was said; `code` is the exit code that says so."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Interrupted(RunEnded):
    """The user asked to stop; the run can be resumed."""


@contextmanager
def stop_signals(group: ProcessGroup) -> Iterator[Callable[[], None]]:
    """Turn SIGINT and SIGTERM into Interrupted at the next safe point, which is a call of what is yielded.

    All processes of the group stop at the same point. Signals reach the main thread alone: a run in another thread
    goes on to its end.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    def stop() -> None:
        number = group.largest(asked[0] if asked else 0)
        if number:
            raise Interrupted(128 + number)

    caught = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    old = {number: signal.signal(number, note) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
