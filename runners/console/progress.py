"""Progress of long work on stderr: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from runners.console.output import duration, log

Item = TypeVar("Item")

LINE_SECONDS = 10.0
"""Least time between two lines where there is no terminal."""

SETTLED_SECONDS, SETTLED_REPORTS, SETTLED_FACTOR = 5.0, 3, 1.5
"""The time left is shown after so many seconds and reports, and while the rates of the last two quarters of the time
differ by less than this factor: what comes first (a kernel that is built, a file that is read) misleads."""


class ReportProgress(Protocol):
    """Function that takes the state of the work."""

    def __call__(self, done: int, note: str, /) -> None:
        """Report that `done` units are finished; the note is shown after the numbers."""
        ...


@contextmanager
def progress(label: str, total: int, unit: str, done: int = 0, show: bool = True) -> Iterator[ReportProgress]:
    """Show progress on stderr, with the rate and the time left.

    Args:
        label: what is being done: "training".
        total: units of work in all.
        unit: their name, in the plural: "tasks".
        done: units finished before (by a run that is resumed, say).
        show: False for a process whose progress another one shows. With --quiet nothing is shown.
    """
    if not show or not log.isEnabledFor(logging.INFO):
        yield lambda done, note: None
        return
    console = Console(stderr=True)
    rate = Rate(total, done)
    if not (console.is_terminal and sys.stderr.isatty()):  # FORCE_COLOR makes a file a terminal
        yield _as_lines(label, unit, rate)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=12), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        task, drawn = bar.add_task(label, total=total, completed=done, state=""), 0.0

        def draw(done: int, note: str) -> None:
            nonlocal drawn
            now = rate.update(done)
            if now - drawn >= 0.1:
                drawn = now
                bar.update(task, completed=done, state=rate.describe(done, unit, note))

        yield draw


class Rate:
    """How fast the work goes since this process began it, at unit `done` of `total`.

    The clock starts at the last report before the first finished unit, so that a validation before it does not count.
    The rate is that of the second half of the time since then.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first, self.start = total, done, time.monotonic()
        self.advances = 0
        self._points = deque([(self.start, done)])
        """Times and what was done by then, of the second half of the time and one point before."""

    def update(self, done: int) -> float:
        """Take note of a report; returns the time of it."""
        now, points = time.monotonic(), self._points
        if done == self.first:
            self.start = now
            points.clear()
        self.advances += bool(points) and done > points[-1][1]
        if len(points) > 1 and now - points[-2][0] < (now - self.start) / 100:
            points.pop()  # a hundred points say as much as a million
        points.append((now, done))
        while len(points) > 2 and points[1][0] <= self.start + (now - self.start) / 2:
            points.popleft()
        return now

    def _between(self, early: float, late: float) -> float:
        """Units per second between two shares of the time."""
        seconds = self._points[-1][0] - self.start
        return (self._done_at(late * seconds) - self._done_at(early * seconds)) / (late - early) / max(seconds, 1e-9)

    def _done_at(self, second: float) -> float:
        """What was done at a time after the start, between two reports in proportion."""
        after = next((i for i, (time, _) in enumerate(self._points) if time - self.start >= second), -1)
        if after < 1:
            return float(self._points[after][1])
        (then, before), (now, done) = self._points[after - 1], self._points[after]
        return before + (done - before) * (self.start + second - then) / (now - then)

    def describe(self, done: int, unit: str, note: str) -> str:
        """Like "1200/70000 (2%), 812 tasks/s, 85 s left, loss 0.123"; rate and time left only once they are known."""
        parts = [f"{done}/{self.total} ({done / max(self.total, 1):.0%})"]
        seconds, rate = self._points[-1][0] - self.start, self._between(0.5, 1)
        if rate > 0:
            parts += [f"{rate:.3g} {unit}/s" if rate < 100 else f"{rate:.0f} {unit}/s"]
            third, fourth = self._between(0.5, 0.75), self._between(0.75, 1)
            steady = max(third, fourth) < SETTLED_FACTOR * min(third, fourth)
            if steady and seconds >= SETTLED_SECONDS and self.advances >= SETTLED_REPORTS:
                parts += [f"{duration((self.total - done) / rate)} left"]
        return ", ".join([*parts, note] if note else parts)


def _as_lines(label: str, unit: str, rate: Rate) -> ReportProgress:
    """A line after ten seconds, then after another tenth of the time so far, but at least every ten minutes."""
    last = begun = rate.start

    def line(done: int, note: str) -> None:
        nonlocal last
        now = rate.update(done)
        if now - last >= min(max(LINE_SECONDS, (now - begun) / 10), 60 * LINE_SECONDS):
            last = now
            log.info(f"{label} {rate.describe(done, unit, note)}")

    return line


def with_progress(items: Sequence[Item] | Iterable[Item], label: str, unit: str) -> Iterator[Item]:
    """Iterate over the items and show the progress."""
    items = list(items)
    with progress(label, len(items), unit) as report:
        for i, item in enumerate(items):
            yield item
            report(i + 1, "")
