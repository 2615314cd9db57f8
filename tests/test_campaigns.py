"""Short, seeded parts of the campaigns whose whole runs docs/results/reliability.md records."""

import os
import subprocess
import sys

import pytest

from tests.helpers.cli import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1, 2])
def test_a_little_fuzzing(seed):
    words = [sys.executable, "campaigns/fuzz.py", "700", str(seed)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 kinds of findings" in done.stdout


def test_a_few_kills():
    from campaigns import kills

    assert len(kills.CASES) == 6
    code = (
        "from campaigns import kills; kills.CASES = {k: v for k, v in kills.CASES.items() if k == 'lstm, sine'};"
        "kills.main(3, 5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed in: " in done.stdout
