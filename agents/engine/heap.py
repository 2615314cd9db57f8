"""Free memory between tensors that stay, given back to the system. It changes nothing that is computed.

Every inner step keeps small tensors for the backward pass and frees large ones. glibc puts the small ones into the gaps
that the large ones leave, so that the next large ones do not fit, and in a long inner loop the heap grows to more than
twice what is in use (docs/results/reliability.md). The same happens between phases whose buffers differ in size.
"""

from __future__ import annotations

import contextlib
import ctypes

from torch import Tensor

EVERY = 8
"""Inner steps between two times."""

LARGE = 2**16
"""Coordinates (tasks times weights) from which it is worth the page faults that follow."""


def give_back_memory() -> None:
    """Give the memory that glibc keeps, and that is free, back to the system; without glibc, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back_in_loop(step: int, params: Tensor) -> None:
    """After the inner step with this number over weights [B, P], forward or backward: where it is due."""
    if step % EVERY == EVERY - 1 and params.numel() > LARGE and params.device.type == "cpu":
        give_back_memory()
