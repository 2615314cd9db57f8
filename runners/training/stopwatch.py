"""Stopwatch: how long a run takes, by what it does, over all its interruptions."""

from __future__ import annotations

import time


class Stopwatch:
    """Wall-clock seconds by phase; `seconds` holds those of earlier parts of the run."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = dict(seconds)
        self._phase: str | None = None
        self._since = 0.0

    def switch(self, phase: str | None) -> str | None:
        """Count what follows as `phase` (None: as nothing); returns the phase that ends."""
        self.read()
        before, self._phase = self._phase, phase
        return before

    def read(self) -> dict[str, float]:
        """Seconds of every phase until now."""
        now = time.monotonic()
        if self._phase is not None:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._since = now
        return {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}
