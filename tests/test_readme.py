"""What the README and the tutorials show is run, exactly as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [(ROOT / page).read_text() for page in ("README.md", "docs/own-images.md", "docs/new-environment.md")]
BLOCKS = re.findall(r"```python\n(.*?)```", "".join(PAGES[:2]), re.DOTALL)
TEXT = "".join(PAGES)
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    fsl ")]


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / link).exists(), link


def test_the_agent_of_ones_own(tmp_path):
    (source,) = [b for b in BLOCKS if "class Ridge" in b]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    (tmp_path / "ridge.py").write_text(source)
    (command,) = [c for c in COMMANDS if "ridge:Ridge" in c]
    tiny = "--tasks 50 --set val_tasks=4 --set test_tasks=4"
    words = [sys.executable, "-m", "runners", *shlex.split(command)[1:], *tiny.split()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test on sine: mse" in done.stdout


def test_the_agent_of_ones_own_keeps_the_contract(small_store):
    from agents.check import check_agent
    from tests.agents.test_contract import tasks_for

    names: dict = {}
    exec(next(b for b in BLOCKS if "class Ridge" in b), names)
    for kind in ("sine", "images"):
        spec, train, test = tasks_for(kind, 0, small_store)
        check_agent(lambda spec=spec: names["Ridge"](spec, names["Ridge"].Config()), train, test)


@pytest.mark.parametrize("block", [b for b in BLOCKS if "class Ridge" not in b])
def test_python_blocks_run(block):
    subprocess.run([sys.executable, "-W", "error", "-c", block], check=True, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command):
    words = shlex.split(command, comments=True)[1:]
    options = [w for w in words if w.startswith("--")]
    verbs = [w for w in words if not w.startswith("-")][: 2 if words[0] == "data" else 1]
    done = subprocess.run(
        [sys.executable, "-m", "runners", *verbs, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(option in done.stdout for option in options)
