"""Stopping a run when it is asked to: at the next safe point, in all processes of a team at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from runners.distributed.process_group import Team


class Interrupted(Exception):
    """The user asked to stop; `code` is the process's exit code. The run can be resumed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def stop_signals(team: Team) -> Iterator[Callable[[], None]]:
    """Turn SIGINT and SIGTERM into Interrupted at the next safe point, which is a call of what is yielded.

    All processes of the team stop at the same point.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    def stop() -> None:
        number = team.largest(asked[0] if asked else 0)
        if number:
            raise Interrupted(128 + number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
