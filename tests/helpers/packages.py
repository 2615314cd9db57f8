"""Install one of examples/ without a network, and run commands beside it."""

import os
import shutil
import subprocess
import sys

from tests.helpers.cli import ROOT

QUIET = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]


def install(example, package, folder):
    """Install examples/`example` from a copy, of which only what is not `package` stays.

    Returns the copy's folder and a function that runs `python -m ...` with the package installed.
    """
    copy, target = folder / "package", folder / "installed"
    rubbish = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
    shutil.copytree(ROOT / "examples" / example, copy, ignore=rubbish)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(target), str(ROOT)]), "FSL_HOME": str(folder)}

    def command(*words, cwd=folder):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command("pip", "install", *QUIET, "--target", target, copy)
    shutil.rmtree(copy / package)
    return copy, command
