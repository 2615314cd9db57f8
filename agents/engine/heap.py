"""Free memory between tensors that stay, given back to the system.

A step of the inner loop keeps small tensors for the backward pass and frees large ones. glibc puts small blocks into
the gaps that large ones leave, so that the next large block fits in none of them: the heap of a long inner loop grows
to a multiple of what is in use (docs/results/reliability.md). What is computed does not change.
"""

from __future__ import annotations

import contextlib
import ctypes

from torch import Tensor

EVERY = 10
"""Inner steps between two times; the page faults that follow one cost as much as a third of a step of Conv4."""

LARGE = 2**16
"""Coordinates (tasks times weights) from which it is worth it."""


def give_back_free_memory(step: int, params: Tensor) -> None:
    """Before inner step number `step` on weights [B, P], where it is due. Where there is no glibc, nothing happens."""
    if step and step % EVERY == 0 and params.numel() > LARGE and params.device.type == "cpu":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
