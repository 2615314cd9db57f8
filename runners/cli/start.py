"""Where `fsl` starts: from here on Ctrl-C ends it without a word, amid an import as well."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run `fsl`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it was started to ignore Ctrl-C
        signal.signal(signal.SIGINT, _leave)
    from runners.cli.main import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt, but not in an import: torch's aborts, and there is nothing to put in order yet."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt
