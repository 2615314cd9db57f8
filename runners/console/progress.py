"""What the user sees while a run goes on: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from runners.console.output import duration, log

Item = TypeVar("Item")


LINE_SECONDS = 10.0


class Report(Protocol):
    """Takes the state of the work."""

    def __call__(self, now: int, note: str, /) -> None:
        """Report that `now` units are finished."""
        ...


@contextmanager
def progress(label: str, total: int, unit: str, done: int = 0, show: bool = True) -> Iterator[Report]:
    """Show progress on stderr with the rate and the time left; outside a terminal as a line now and then.

    show: False for a process whose progress another one shows. With --quiet nothing is shown.
    """
    if not show or not log.isEnabledFor(logging.INFO):
        yield lambda now, note: None
        return
    console = Console(stderr=True)
    pace = Pace(total, done)
    if not console.is_terminal:
        yield _lines(label, unit, pace)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=12), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        shown, drawn = bar.add_task(label, total=total, completed=done, state=""), 0.0

        def draw(now: int, note: str) -> None:
            nonlocal drawn
            moment = pace.seen(now)
            if moment - drawn >= 0.1:
                drawn = moment
                bar.update(shown, completed=now, state=pace.in_words(now, unit, note))

        yield draw


class Pace:
    """How fast the work goes since this process began it, at unit `done` of `total`.

    The first unit begins at the last report before it, so that a validation ahead of it does not count as work.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first, self.start = total, done, time.monotonic()

    def seen(self, now: int) -> float:
        """Take note of a report, at the moment that it returns."""
        moment = time.monotonic()
        if now == self.first:
            self.start = moment
        return moment

    def in_words(self, now: int, unit: str, note: str) -> str:
        """Like "1200/70000 (2%), 812 tasks/s, 85 s left, loss 0.123"; no rate before there is one."""
        parts = [f"{now}/{self.total} ({now / max(self.total, 1):.0%})"]
        seconds = time.monotonic() - self.start
        if now > self.first and seconds > 0:
            rate = (now - self.first) / seconds
            parts += [f"{rate:.3g} {unit}/s" if rate < 100 else f"{rate:.0f} {unit}/s"]
            parts += [f"{duration((self.total - now) / rate)} left"]
        return ", ".join([*parts, note] if note else parts)


def _lines(label: str, unit: str, pace: Pace) -> Report:
    """A line after ten seconds, and then ever more seldom: after a tenth of the time so far, ten minutes at most."""
    last = begun = pace.start

    def line(now: int, note: str) -> None:
        nonlocal last
        moment = pace.seen(now)
        if moment - last >= min(max(LINE_SECONDS, (moment - begun) / 10), 60 * LINE_SECONDS):
            last = moment
            log.info(f"{label} {pace.in_words(now, unit, note)}")

    return line


def over(items: Sequence[Item] | Iterable[Item], label: str, unit: str) -> Iterator[Item]:
    """Iterate with progress."""
    items = list(items)
    with progress(label, len(items), unit) as report:
        for i, item in enumerate(items):
            yield item
            report(i + 1, "")
