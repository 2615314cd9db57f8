"""How much memory does `fsl run` hold on images? `python campaigns/memory.py [AGENT ...]`: by default every case below.

Conv4 as the paper has it (84x84, 64 filters, 5-way 1-shot, 16 queries a class) on one thread, on images drawn in code:
their content does not matter. Own (anonymous) memory and the pages of files that it maps (images, libraries), which the
system takes back when it needs them, are read from /proc twenty times a second; the highest of each counts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from runners.config.machine import Memory, memory_of

ROOT = Path(__file__).parent.parent
FSL = [sys.executable, "-m", "runners"]
COMMON = ["train_tasks=24", "val_every=12", "val_tasks=20", "test_tasks=20", "eval_batch=10"]
LITTLE = ["train_tasks=8", "val_every=8", "val_tasks=4", "test_tasks=4"]
CASES = {
    "maml": ["agent.meta_batch=4"],
    "turtle": ["agent.meta_batch=2"],
    "fo-maml": ["agent.meta_batch=4"],
    "lstm-enhanced": ["agent.meta_batch=2"],
    "finetuning": [],
    "maml, T = 100": ["agent.meta_batch=4", "agent.inner_steps=100", *LITTLE],
    "turtle, T = 100": ["agent.meta_batch=2", "agent.inner_steps=100", *LITTLE],
}
"""What is set for each case; its agent stands before the comma."""


def draw(folder: Path, classes: int = 6, images: int = 24) -> None:
    """A data set of noise: three splits of class folders."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for c in range(classes):
            place = folder / split / f"{split}-{c}"
            place.mkdir(parents=True)
            for i in range(images):
                Image.fromarray(rng.integers(0, 256, (84, 84, 3), dtype=np.uint8)).save(place / f"{i}.png")


def measure(case: str, home: Path) -> Memory:
    """The most own memory and the most file pages of one run, MB."""
    pairs = [*COMMON, *CASES[case]]
    with tempfile.TemporaryDirectory() as place:
        words = ["run", "--env", "noise", "--agent", case.split(",")[0], "--log-dir", place]
        command = [*FSL, *words, *(w for p in pairs for w in ("--set", p))]
        with open(Path(place) / "output.txt", "w+") as output:
            run = subprocess.Popen(command, cwd=ROOT, env=environment(home), stdout=output, stderr=output)
            most = Memory(0, 0)
            while run.poll() is None:
                with contextlib.suppress(OSError, KeyError):  # it ends
                    most = most.most(memory_of(run.pid))
                time.sleep(0.05)
            output.seek(0)
            assert run.returncode == 0, output.read()
    return most


def environment(home: Path) -> dict[str, str]:
    """One thread; data sets lie below `home`."""
    return os.environ | {"FSL_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def prepare(home: Path) -> None:
    """Draw the data set, and prepare it below `home` under the name noise."""
    draw(home / "source")
    command = [*FSL, "data", "prepare", "noise", "--source", str(home / "source")]
    subprocess.run(command, cwd=ROOT, env=environment(home), check=True, stdout=subprocess.DEVNULL)


def main(cases: list[str]) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as home:
        prepare(Path(home))
        print("| run | own MB | MB of files |\n|---|---|---|")
        for case in cases:
            most = measure(case, Path(home))
            print(f"| {case} | {most.own:.0f} | {most.file:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
