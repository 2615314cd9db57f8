"""The example package of docs/new-environment.md installs, registers itself and runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "new_environment"
PAGE = (ROOT / "docs" / "new-environment.md").read_text()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package, installed without a network; returns its folder and runs commands beside it."""
    folder = tmp_path_factory.mktemp("new-environment")
    copy, target = folder / "package", folder / "installed"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*"))
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(target), str(ROOT)]), "FSL_HOME": str(folder)}

    def command(*words, cwd=folder):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command("pip", "install", *quiet, "--target", target, copy)
    shutil.rmtree(copy / "fewshot_steps")  # only the installed one is left
    return copy, command


def test_it_is_listed_explained_and_run(package):
    _, fsl = package
    assert "steps           a step between two levels, 5-shot" in fsl("runners", "list")
    assert "env.height = 4.0" in fsl("runners", "show", "steps")
    tiny = ["train_tasks=8", "val_every=8", "val_tasks=2", "test_tasks=4", "env.height=2"]
    words = ["--agent", "maml", *(word for pair in tiny for word in ("--set", pair))]
    assert "test on steps: mse" in fsl("runners", "run", "--env", "steps", *words)


def test_its_own_test_passes(package):
    copy, command = package
    assert "3 passed" in command("pytest", "-p", "no:cacheprovider", "-W", "error", cwd=copy)


def test_the_page_shows_the_package_as_it_is():
    files = "".join((EXAMPLE / f).read_text() for f in ("pyproject.toml", "fewshot_steps/__init__.py"))
    files += (EXAMPLE / "fewshot_steps" / "sampler.py").read_text()
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    assert all(block in files for block in blocks)
    assert len((EXAMPLE / "fewshot_steps" / "sampler.py").read_text().splitlines()) <= 70
