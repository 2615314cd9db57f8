"""Torch in a forked process: its threads stay behind in the parent, and a child that waits for them waits for ever."""

from __future__ import annotations

import os

import torch

_imported_in = os.getpid()


def use_one_thread_after_fork() -> None:
    """In a process that was forked after this module was imported, have torch use the calling thread alone.

    AsyncVectorEnv forks its workers, and torch's DataLoader does the same in its own.
    """
    global _imported_in
    if os.getpid() != _imported_in:
        torch.set_num_threads(1)
        _imported_in = os.getpid()
