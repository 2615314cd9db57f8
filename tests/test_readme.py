"""What the README and the pages of docs/ show is run, or at least resolved, exactly as it stands."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from runners.config.plan import make_plan
from runners.training import launcher as carry_out
from tests.helpers.cli import ROOT, main

PAGES = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))}
VERBATIM = ("docs/new-environment.md", "docs/new-agent.md")  # parts of the examples: see their own tests
BLOCKS = [
    pytest.param(block, id=f"{page}-{i}")
    for page in PAGES
    if page not in VERBATIM
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL))
]
(RIDGE,) = [b.values[0] for b in BLOCKS if "class Ridge" in b.values[0]]
TEXT = "\n".join(PAGES.values()).replace("\\\n", " ").replace(" && .venv/bin/", "\n    ")  # a command a line
COMMANDS = sorted({line.strip() for line in TEXT.splitlines() if line.startswith("    fsl ")})
CUSTOM = "ridge:|reptile:|my_networks:"
"""Code that the pages show: run by tests of its own."""
STAND_INS = {
    "mini": "glyphs",
    "cub": "textures",
    "cub-224": "textures",
    "my-birds": "textures",
    "steps": "sine",
    "discriminant": "maml",
}
STAND_INS |= {
    "omniglot": "glyphs",
    "ENV": "glyphs",
    "NAME": "maml",
    "SEED": "0",
}  # placeholders of the results' pages


def python(cwd, *words):
    """Run Python in a folder of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.slow
def test_the_custom_agent(tmp_path):
    assert len([line for line in RIDGE.splitlines() if line.strip()]) <= 20
    (tmp_path / "ridge.py").write_text(RIDGE)
    (command,) = [c for c in COMMANDS if "ridge:Ridge" in c]
    tiny = "--tasks 50 --set val_tasks=4 --set test_tasks=4"
    assert "test on sine: mse" in python(tmp_path, "-m", "runners", *shlex.split(command)[1:], *tiny.split())


def test_the_custom_agent_keeps_the_contract(small_store):
    from agents.check import check_agent
    from tests.helpers.agents import tasks_for

    names: dict = {}
    exec(RIDGE, names)
    for kind in ("sine", "images"):
        spec, train, test = tasks_for(kind, 0, small_store)
        check_agent(lambda spec=spec: names["Ridge"](spec, names["Ridge"].Config()), train, test)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.values[0] != RIDGE])
def test_python_blocks_run(block, tmp_path):
    python(tmp_path, "-W", "error", "-c", block)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command, capsys):
    words = shlex.split(command, comments=True)[1:]
    options = [w for w in words if w.startswith("--")]
    verbs = [w for w in words if not w.startswith("-")][: 2 if words[0] == "data" else 1]
    assert main(*verbs, "--help") == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in options)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("fsl run --env") and not re.search(CUSTOM, c)])
def test_runs_resolve(command, monkeypatch, tmp_path):
    """To a plan; what needs data or a package is stood in for."""
    plans = []

    def planned(settings, preset, *_):
        names = re.sub(r"[\w-]+(?<!-)", lambda name: STAND_INS.get(name[0], name[0]), settings["env"])
        agent = STAND_INS.get(settings["agent"], settings["agent"])
        plans.append(make_plan(settings | {"env": names, "agent": agent}, preset))
        return plans

    monkeypatch.setattr(carry_out, "planned", planned)
    monkeypatch.setattr(carry_out, "_carry_out", lambda *_, **__: None)
    monkeypatch.setattr(carry_out, "report", lambda folders: ({}, ""))
    monkeypatch.setattr("runners.training.estimate.estimate", lambda *_: ({}, ""))
    monkeypatch.chdir(tmp_path)
    words = [STAND_INS.get(word, word) for word in shlex.split(command, comments=True)[1:]]
    assert main(*words) == 0
    assert plans
