"""Start the processes of a run on this machine, and say clearly when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import IO

from fewshot_env.errors import command
from runners.console.output import verbosity_flags

MARK = "FSL_LAUNCHED"
PATIENCE = 30.0  # seconds in which the others of a group may save and leave


def launch(folder: Path, count: int) -> int:
    """Carry out the run in `folder` with `count` processes; returns the exit code: 0, or as for one process.

    Where a process dies, the others end too and the run's last checkpoint stays usable.
    """
    from runners.distributed.process_group import free_port, place  # which imports torch

    port = free_port()
    words = [sys.executable, "-m", "runners", "run", "--resume", str(folder), *verbosity_flags()]
    processes: list[subprocess.Popen[bytes]] = []
    asides: list[IO[bytes]] = []  # stderr of all but the first, most of which the first prints too
    asked: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        _send(processes, number)

    old = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as files:
        try:
            for rank in range(count):
                if rank:
                    asides.append(files.enter_context(TemporaryFile()))
                env = os.environ | {MARK: "1"} | place(rank, count, port)
                processes.append(subprocess.Popen(words, env=env, stderr=asides[-1] if rank else None))
            codes = _wait(processes)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            _send(processes, signal.SIGKILL)
        said = [""] + [_read(aside) for aside in asides]
    if asked:
        return 128 + asked[0]
    dead = sorted(((rank, code) for rank, code in codes.items() if code), key=lambda one: one[1] != 2)
    if not dead or codes[0] == 2:
        return codes[0]
    rank, code = dead[0]
    print(said[rank], end="", file=sys.stderr)
    if code == 2:  # bad input: everything was said
        return 2
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"failed with exit code {code}"
    print(
        f"fsl: process {rank} of {count} {how}; continue with: {command('fsl', 'run', '--resume', folder)}",
        file=sys.stderr,
    )
    return 1


def launched() -> bool:
    """Whether this process is one that `launch` started."""
    return MARK in os.environ


def reports_result() -> bool:
    """Whether this process reports the result: the one that launched the others, or torchrun's first."""
    return not launched() and os.environ.get("RANK", "0") == "0"


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _send(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _wait(processes: list[subprocess.Popen[bytes]]) -> dict[int, int]:
    """Exit codes by rank, in the order in which the processes ended."""
    codes: dict[int, int] = {}
    deadline = float("inf")
    while len(codes) < len(processes):
        for rank, process in enumerate(processes):
            code = process.poll()
            if rank not in codes and code is not None:
                codes[rank] = code
                if code != 0:
                    deadline = min(deadline, time.monotonic() + PATIENCE)
        if time.monotonic() > deadline:
            _send(processes, signal.SIGKILL)
        time.sleep(0.05)
    return codes
