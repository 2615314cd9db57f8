"""The example package of docs/new-environment.md installs, registers itself and runs."""

import re
from pathlib import Path

import pytest

from tests.example_package import install

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "new_environment"
PAGE = (ROOT / "docs" / "new-environment.md").read_text()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return install("new_environment", "fewshot_steps", tmp_path_factory.mktemp("new-environment"))


def test_it_is_listed_explained_and_run(package):
    _, fsl = package
    assert "steps          ready    a step between two levels, 5-shot" in fsl("runners", "list")
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
