"""Plug-ins can be wrong in every way and do not break fsl: each is one line that names it, and the rest works."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.cli import ROOT

pytestmark = pytest.mark.slow

ENTRY = "from fewshot_env import EnvEntry\nENTRY = EnvEntry({!r}, 'FewShot/{}-v0', '{}:Sampler', 'a plug-in')\n"
SINE = "from fewshot_env.sine import SineSampler as Sampler\n"

ENVS = {  # name: what its module does, and what fsl says of it
    "missing": (None, "ModuleNotFoundError: No module named 'missing'"),
    "imports": ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing' (imports.py, line 1)"),
    "raises": ("ENTRY = 1 / 0", "ZeroDivisionError: division by zero (raises.py, line 1)"),
    "leaves": ("import sys; sys.exit('bye')", "SystemExit: bye (leaves.py, line 1)"),
    "typed": ("ENTRY = 'typed'", "typed:ENTRY is not a fewshot_env.EnvEntry, but str"),
    "nothing": ("", "AttributeError: module 'nothing' has no attribute 'ENTRY'"),
    "clash": (
        ENTRY.format("sine", "Clash", "clash"),
        "the environment 'sine' (FewShot/Clash-v0) is already",
    ),
    "twice": (
        ENTRY.format("twice", "Sine", "twice"),
        "the environment 'twice' (FewShot/Sine-v0) is already",
    ),
    "noid": (
        "from fewshot_env import EnvEntry\nENTRY = EnvEntry('noid', '?', 'noid:X', '')",
        "Error: Malformed environment ID",
    ),
}
SKIPPED_AGENTS = {  # name: entry point, and what fsl says of it
    "absent": ("absent.agent:Plug", "there is no package for absent.agent:Plug"),
    "garbled": ("::", "'::' is not module:Class"),
    "maml": ("half:Plug", "the agent 'maml' is already registered"),
}
USED = {  # told when they are used, since naming them imports nothing
    "--env": {
        "unsampled": (ENTRY.format("unsampled", "U", "unsampled"), "no attribute 'Sampler'"),
        "dealless": (
            ENTRY.format("dealless", "D", "dealless")
            + SINE.replace("SineSampler as Sampler", "SineSampler")
            + "class Sampler(SineSampler): sample = property()",
            "'dealless:Sampler' is not a TaskSampler (fewshot_env.sampler): no sample",
        ),
        "settingless": (
            ENTRY.format("settingless", "S", "settingless") + "class Sampler: pass",
            "'settingless:Sampler' is not a TaskSampler (fewshot_env.sampler): it has no Config",
        ),
    },
    "--agent": {
        "exits": ("raise SystemExit(0)", "the agent 'exits' cannot be imported: SystemExit: 0 (exits.py, line 1)"),
        "crashes": ("def x(): x()\nx()", "the agent 'crashes' cannot be imported: RecursionError: maximum recursion"),
        "function": ("def Plug(): pass", "'function:Plug' is not an agent: it must be a class derived from"),
        "half": (
            "from agents.base import Agent\nclass Plug(Agent):\n  def adapt(self, support): pass",
            "the agent 'half' cannot be built with these settings",
        ),
    },
}
GOOD = {"good": ENTRY.format("good", "Good", "good") + SINE}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which all of the above are installed as packages."""
    site = tmp_path_factory.mktemp("site")
    modules = {name: code for group in (ENVS, *USED.values()) for name, (code, _) in group.items()} | GOOD
    for name, code in modules.items():
        if code is not None:
            (site / f"{name}.py").write_text(code)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        kind, what = ("agents", "Plug") if name in USED["--agent"] else ("envs", "ENTRY")
        points = {name: f"{name}:{what}"} | ({n: v for n, (v, _) in SKIPPED_AGENTS.items()} if name == "half" else {})
        lines = [f"{n} = {value}" for n, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[fsl.{kind}]", *lines, ""]))
    return site


def python(site, *words):
    """Run Python among them."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "FSL_HOME": str(site / "home")}
    return subprocess.run([sys.executable, *words], cwd=site, env=env, capture_output=True, text=True, check=False)


def test_the_list_names_each_in_one_line_and_goes_on(site):
    done = python(site, "-m", "runners", "list")
    assert done.returncode == 0
    assert "good ready a plug-in" in " ".join(done.stdout.split())
    assert "half plug-in half:Plug" in " ".join(done.stdout.split())
    expected = {f"agent plug-in '{name}'": words for name, (_, words) in SKIPPED_AGENTS.items()}
    expected |= {f"environment plug-in '{name}'": words for name, (_, words) in ENVS.items()}
    for line, (what, words) in zip(sorted(done.stderr.splitlines()), sorted(expected.items()), strict=True):
        assert line.startswith(f"fsl: warning: the {what} was skipped: {words}")


def test_a_run_among_them(site):
    tiny = ["--tasks", "4", "--set", "val_tasks=2", "--set", "test_tasks=2"]
    done = python(site, "-m", "runners", "run", "--env", "good", "--agent", "maml", *tiny)
    assert "test on good: mse" in done.stdout
    assert len([line for line in done.stderr.splitlines() if "plug-in" in line]) == len(ENVS) + len(SKIPPED_AGENTS)


USE_EACH = """
import contextlib, io, json, sys
from runners.cli.main import main
for option, name in json.loads(sys.argv[1]):
    sys.argv = ["fsl", "run", "--env", "sine", "--agent", "maml", option, name]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main()
    print(json.dumps(said.getvalue().splitlines()[-1]))
"""


def test_using_a_broken_one_is_one_line(site):
    uses = [(option, name, words) for option, group in USED.items() for name, (_, words) in group.items()]
    done = python(site, "-c", USE_EACH, json.dumps([use[:2] for use in uses]))
    for (_, _, words), line in zip(uses, done.stdout.splitlines(), strict=True):
        assert json.loads(line).startswith("fsl: ")
        assert words in line


def test_it_ends_with_exit_code_2(site):
    done = python(site, "-m", "runners", "show", "exits")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == len(ENVS) + len(SKIPPED_AGENTS) + 1
