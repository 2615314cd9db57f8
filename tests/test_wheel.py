"""The wheel, built and installed without a network, works in an environment and a folder of its own."""

import os
import shutil
import subprocess
import sys
import venv
from zipfile import ZipFile

import pytest

from tests.helpers.cli import ROOT
from tests.helpers.packages import QUIET

pytestmark = pytest.mark.slow

PACKAGES = ("fewshot_env", "agents", "runners")

SCRIPT = """
import gymnasium
import numpy as np

import agents
import fewshot_env
import runners
from agents.base import Agent
from fewshot_env.env import FewShotEnv
from fewshot_env.episode import Split
from torch import Tensor


class Mean(Agent):
    learns = False

    def adapt(self, support: Split) -> Tensor:
        return support.labels.mean(1, keepdim=True)

    def predict(self, adapted: Tensor, query_x: Tensor) -> Tensor:
        return adapted.expand(-1, query_x.shape[1], -1)


def by_hand(env: FewShotEnv, agent: Agent) -> float:
    obs, _ = env.reset(seed=1)
    return env.step(agent.act(obs))[1]


env = FewShotEnv("fewshot_env.sine:SineSampler", n_shot=3)
print(by_hand(env, agents.make("maml", env.task_spec)), np.pi)
done = runners.run("sine", Mean, {"test_tasks": 4}, preset="quick")
accuracy: float = done.result["mean"]
print(runners.load(done.folder).spec.metric, done.folder.name.upper())
runners.run(3, "maml")  # type: ignore[arg-type]
runners.load(done.folder).no_such_method()  # type: ignore[operator]
agents.find("maml").nam  # type: ignore[attr-defined]
fewshot_env.EnvEntry("name")  # type: ignore[call-arg]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, and an environment with nothing but it on top of the libraries."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", *QUIET, "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    quiet = [word for word in QUIET if word != "--no-build-isolation"]
    subprocess.run([*pip, "--python", python, "install", *quiet, "--ignore-installed", wheel], check=True)
    return wheel, python


def command(python, *words, **more):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"FSL_HOME": str(python.parent.parent)}
    return subprocess.run(
        [*map(str, words)], cwd=python.parent, env=env, capture_output=True, text=True, check=False, **more
    )


def test_it_holds_every_file(installed):
    names = set(ZipFile(installed[0]).namelist())
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert {str(p.relative_to(ROOT)) for p in files} <= names
    assert {"splits/mini.json", "py.typed"} <= {n.removeprefix("fewshot_env/") for n in names}
    assert not [n for n in names if n.split("/")[0] not in PACKAGES and ".dist-info/" not in n]


def test_the_command_works_elsewhere(installed):
    _, python = installed
    fsl = python.parent / "fsl"
    listed = command(python, fsl, "list")
    assert "turtle" in listed.stdout, listed.stderr
    tiny = ["--tasks", "20", "--set", "val_tasks=2", "--set", "test_tasks=4"]
    done = command(python, fsl, "run", "--env", "sine", "--agent", "maml", *tiny)
    assert "test on sine: mse" in done.stdout, done.stderr
    where = "import agents.kernels, runners; print(agents.__file__, runners.__file__)"
    lines = command(python, python, "-c", where).stdout.split()
    assert all(str(python.parent.parent) in line for line in lines)
    splits = "from fewshot_env.data.splits import split_list as s; print(len(s('mini').split_of))"
    assert command(python, python, "-c", splits).stdout == "100\n"


def test_a_users_script_is_type_checked(installed, tmp_path):
    """Strictly; and wrong uses are found, which `unused type: ignore` would tell."""
    _, python = installed
    (tmp_path / "script.py").write_text(SCRIPT)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", tmp_path / "cache"]
    done = command(python, *mypy, "--config-file", os.devnull, tmp_path / "script.py")
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr
