"""Does a long run grow? `python campaigns/leaks.py [SINE_UPDATES] [CONV4_UPDATES]`: 10,000 and 500; 0 skips that part.

Every agent that learns is trained by `fsl run` (with logs, validations and checkpoints) on sine, and with Conv4 of
8 filters on glyphs (28x28), with a validation every 1/400 of the updates. Own (anonymous) memory, the pages of files
that are mapped, open files and threads are read twenty times. Memory falls by tens of MB now and then and rises again,
so the highest value of own memory in the second half is compared with that in the first: it may not be higher by more
than 2 % and 4 MB. The numbers of files and threads may not grow at all. Pages of files are images and libraries as they
are first used; the system takes them back when it needs them, so they are shown and not judged.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
AGENTS = ("maml", "fo-maml", "turtle", "fo-turtle", "lstm", "lstm-enhanced", "finetuning", "baseline++")
GLYPHS = ["env.n_query=4", "agent.filters=8", "test_tasks=4", "val_tasks=4"]
WATCHED = """
import os, sys
from runners.config.machine import memory
from runners.cli import main as cli
from runners.training import trainer as train
updates = int(sys.argv.pop(1))
real, taken = train.outer_step, [0]
def step(*args, **more):
    found = real(*args, **more)
    taken[0] += 1
    if taken[0] % (updates // 20) == 0:
        now, counts = memory(), [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")]
        print("SAMPLE", now.own, now.file, *counts, flush=True)
    return found
train.outer_step = step
cli.main()
"""


def measure(agent: str, env: str, updates: int) -> list[tuple[float, float, int, int]]:
    """Twenty samples of a run: own memory and pages of files in MB, open files, threads."""
    meta_batch = 1 if env == "sine" or agent in ("finetuning", "baseline++") else 2
    pairs = [f"train_tasks={updates * meta_batch}", f"val_every={max(1, updates // 400)}", "on_nan=skip"]
    pairs += ["val_tasks=20", "test_tasks=20"] if env == "sine" else GLYPHS
    pairs += [] if agent in ("finetuning", "baseline++") else [f"agent.meta_batch={meta_batch}"]
    with tempfile.TemporaryDirectory() as place:
        words = ["run", "--env", env, "--agent", agent, "--log-dir", place]
        command = [sys.executable, "-c", WATCHED, str(updates), *words, *(w for p in pairs for w in ("--set", p))]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONWARNINGS": "ignore"}, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("SAMPLE")]
    return [(float(own), float(pages), int(files), int(threads)) for own, pages, files, threads in rows]


def main(sine: int = 10_000, conv4: int = 500) -> None:
    """Measure, and print a table."""
    print("| agent | tasks | updates | most own MB, first half | second half | MB of files | open files | threads | |")
    print("|---|---|---|---|---|---|---|---|---|")
    grew = 0
    for env, updates in (("sine", sine), ("glyphs", conv4)):
        for agent in AGENTS if updates else ():
            seen = measure(agent, env, updates)
            first, second = ([max(column) for column in zip(*half, strict=True)] for half in (seen[:10], seen[10:]))
            flat = second[0] - first[0] <= max(4, 0.02 * first[0]) and second[2] <= first[2] and second[3] <= first[3]
            grew += not flat
            counts = [f"{first[i]:.0f} and {second[i]:.0f}" for i in (1, 2, 3)]
            cells = [agent, env, updates, f"{first[0]:.0f}", f"{second[0]:.0f}", *counts, "flat" if flat else "GREW"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    sys.exit(grew)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
