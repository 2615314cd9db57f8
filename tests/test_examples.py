"""The example packages install, register themselves and run, and the pages that explain them show them as they are."""

import re

import pytest

from tests.helpers.cli import ROOT, sets
from tests.helpers.packages import install

EXAMPLES = {
    "discriminant": {
        "name": "discriminant",
        "package": "fewshot_discriminant",
        "page": "new-agent.md",
        "listed": "discriminant plug-in fewshot_discriminant.agent:Discriminant",
        "shown": "agent.ridge = 1.0",
        "run": ["--env", "glyphs", "--agent", "discriminant"],
        "settings": ["env.n_query=2", "agent.filters=4", "train_tasks=4", "val_tasks=2", "test_tasks=4"],
        "scored": "test on glyphs: accuracy",
        "own_tests": 6,
        "blocks": 4,
    },
    "new_environment": {
        "name": "steps",
        "package": "fewshot_steps",
        "page": "new-environment.md",
        "listed": "steps ready a step between two levels, 5-shot",
        "shown": "env.height = 4.0",
        "run": ["--env", "steps", "--agent", "maml"],
        "settings": ["train_tasks=8", "val_every=8", "val_tasks=2", "test_tasks=4", "env.height=2"],
        "scored": "test on steps: mse",
        "own_tests": 3,
        "blocks": 5,
    },
}


OF_OTHER_TESTS = ("class Reptile", "FLOWERS")
"""Blocks of the pages that are no part of a package: tests/agents and tests/fewshot_env run them."""


@pytest.fixture(scope="module", params=EXAMPLES)
def installed(request, tmp_path_factory):
    """What is expected of an example, its copy, and what runs `python -m ...` beside it."""
    expected = EXAMPLES[request.param]
    return expected, *install(request.param, expected["package"], tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
def test_it_is_listed_explained_and_run(installed):
    expected, _, command = installed
    assert expected["listed"] in " ".join(command("runners", "list").split())
    assert expected["shown"] in command("runners", "show", expected["name"])
    assert expected["scored"] in command("runners", "run", *expected["run"], *sets(*expected["settings"]))


@pytest.mark.slow
def test_its_own_tests_pass(installed):
    expected, copy, command = installed
    assert f"{expected['own_tests']} passed" in command("pytest", "-p", "no:cacheprovider", "-W", "error", cwd=copy)


@pytest.mark.slow
def test_regression_is_refused_by_the_discriminant_in_one_line(tmp_path):
    _, command = install("discriminant", "fewshot_discriminant", tmp_path)
    with pytest.raises(AssertionError, match=r"^fsl: the agent 'discriminant' .* regression has none; .*\n$"):
        command("runners", "run", "--env", "sine", "--agent", "discriminant")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_the_package_as_it_is(name):
    expected, folder = EXAMPLES[name], ROOT / "examples" / name
    files = [folder / "pyproject.toml", *sorted((folder / expected["package"]).glob("*.py"))]
    text = "\n".join(file.read_text() for file in files)
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "docs" / expected["page"]).read_text(), re.DOTALL)
    blocks = [block for block in blocks if not any(name in block for name in OF_OTHER_TESTS)]
    assert len(blocks) == expected["blocks"]
    assert all(block in text for block in blocks)


def test_an_environment_takes_a_page_of_code():
    assert len((ROOT / "examples/new_environment/fewshot_steps/sampler.py").read_text().splitlines()) <= 70
