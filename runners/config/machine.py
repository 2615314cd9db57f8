"""What makes this machine fast: memory that stays with the process, the number of threads, the device."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import resource
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from fewshot_env.errors import FewShotError


def tune(threads: int) -> None:
    """Set CPU threads, and have glibc keep freed memory.

    By default glibc returns every large buffer to the system at once, and the page faults that follow slow
    Conv4 down (docs/design.md). Where there is no glibc, nothing happens.
    """
    torch.set_num_threads(threads)
    # torch.func.jvp scripts helpers of its own on first use; the notice is not for our users
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=DeprecationWarning)
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 26)  # M_MMAP_THRESHOLD: buffers below 64 MiB come from the heap,
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: which is not trimmed


def usable_device(name: str) -> torch.device:
    """The device called `name` ("auto": CUDA where there is one); raises FewShotError where it cannot be used."""
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are supported")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:100]
        reason = "there is none of that name" if reason.startswith("Expected one of") else reason
        raise FewShotError(
            f"device {name!r} cannot be used ({reason}); use --device cpu (to resume a run that was made "
            "elsewhere, write cpu for device in its config.json)"
        ) from error
    return device


@dataclass(frozen=True)
class Memory:
    """Memory of a process (or of its GPU), MB.

    Attributes:
        own: its own (anonymous) memory, which only it can give back.
        file: pages of files, the mapped images and the libraries, which the system may take back at any time.
    """

    own: float
    file: float

    def most(self, other: Memory) -> Memory:
        """The larger of both, each."""
        return Memory(max(self.own, other.own), max(self.file, other.file))


def memory(cuda: bool = False) -> Memory:
    """The memory of this process now; of a GPU the most so far, and all of it its own.

    Without /proc the most so far, and all of it its own. The kernel keeps no peak of the two apart: sample it.
    """
    if cuda:
        return Memory(torch.cuda.max_memory_allocated() / 2**20, 0.0)
    if Path("/proc/self/status").exists():
        return memory_of("self")
    return Memory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0.0)


def device_name(device: torch.device) -> str:
    """What computes, for the records: the GPU's name, or the processor's with the number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        models = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if models:
            return f"{models[0].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def memory_of(process: int | str) -> Memory:
    """The memory of a process now, by its number; raises OSError or KeyError where it has ended."""
    kb = dict(re.findall(r"(Rss\w+):\s+(\d+) kB", Path(f"/proc/{process}/status").read_text()))
    return Memory((int(kb["RssAnon"]) + int(kb["RssShmem"])) / 1024, int(kb["RssFile"]) / 1024)
