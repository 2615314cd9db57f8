"""What makes this machine fast: memory that stays with the process, and the right number of threads."""

from __future__ import annotations

import contextlib
import ctypes
import warnings

import torch


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
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: buffers below 1 GiB come from the heap,
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: which is not trimmed
