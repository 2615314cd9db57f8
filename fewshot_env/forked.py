"""Torch in a forked process: its threads stay behind in the parent, and a child that waits for them waits for ever.

AsyncVectorEnv and multiprocessing fork their workers. `import fewshot_env` has torch use one thread in processes that
are forked later, as torch's DataLoader does in its own.
"""

from __future__ import annotations

import os
import sys


def _use_one_thread() -> None:
    if "torch" in sys.modules:  # else there are no threads yet
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_use_one_thread)
