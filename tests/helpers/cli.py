"""Small runs through the real command line."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAML = ["run", "--env", "sine", "--agent", "maml"]
TINY = ["train_tasks=24", "val_every=12", "val_tasks=6", "test_tasks=8", "log_every=4", "eval_batch=4"]
SMALL_NET = ["agent.filters=4", "agent.inner_steps=1"]
IMAGES = ["env.n_way=3", "env.n_shot=1", "env.n_query=2"]


def sets(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


def fsl(*words, cwd=None, check=True, timeout=300):
    """Run `fsl` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "runners", *map(str, words)],
        cwd=cwd or ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def main(*words):
    """Run `fsl` in this process; returns the exit code."""
    import pytest

    from runners.cli import main as cli

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fsl", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return end.value.code or 0


def only_run(folder):
    (found,) = [p for p in Path(folder).iterdir() if p.is_dir()]
    return found


def result_of(run):
    return json.loads((run / "result.json").read_text())
