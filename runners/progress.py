"""What the user sees while a run goes on: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


class Report(Protocol):
    """Takes the state of the work."""

    def __call__(self, now: int, note: str, /) -> None:
        """Report that `now` units are finished."""
        ...


LINE_SECONDS = 10.0


@contextmanager
def progress(label: str, total: int, unit: str, done: int = 0, show: bool = True) -> Iterator[Report]:
    """Show progress on stderr with the rate and the time left; outside a terminal as a line now and then.

    show: False for a process whose progress another one shows.
    """
    if not show:
        yield lambda now, note: None
        return
    console = Console(stderr=True)
    start, first = time.monotonic(), done

    def rate(now: int) -> float:
        return (now - first) / max(time.monotonic() - start, 1e-9)

    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
            shown = bar.add_task(label, total=total, completed=done, rate="", note="")

            drawn = [0.0]

            def draw(now: int, note: str) -> None:
                if time.monotonic() - drawn[0] < 0.1:
                    return
                drawn[0] = time.monotonic()
                bar.update(shown, completed=now, rate=f"{rate(now):.1f} {unit}/s", note=note)

            yield draw
        return
    last = [start]

    def line(now: int, note: str) -> None:
        if time.monotonic() - last[0] >= LINE_SECONDS:
            last[0] = time.monotonic()
            left = (total - now) / max(rate(now), 1e-9)
            print(
                f"{label} {now}/{total} {rate(now):.1f} {unit}/s, {left:.0f} s left {note}", file=sys.stderr, flush=True
            )

    yield line


def over(items: Sequence[Item] | Iterable[Item], label: str, unit: str) -> Iterator[Item]:
    """Iterate with progress."""
    items = list(items)
    with progress(label, len(items), unit) as report:
        for i, item in enumerate(items):
            yield item
            report(i + 1, "")
