"""The example agent, ProtoNet, installs, registers itself and runs."""

import re
from pathlib import Path

import pytest

from tests.example_package import install

EXAMPLE = Path(__file__).parent.parent / "examples" / "protonet"
PAGE = (EXAMPLE.parent.parent / "docs" / "new-agent.md").read_text()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return install("protonet", "fewshot_protonet", tmp_path_factory.mktemp("protonet"))


def test_it_is_listed_explained_and_run(package):
    _, command = package
    assert "  protonet       plug-in fewshot_protonet.agent:ProtoNet" in command("runners", "list")
    assert "agent.padding = 1" in command("runners", "show", "protonet")
    tiny = ["env.n_query=2", "agent.filters=4", "train_tasks=4", "val_tasks=2", "test_tasks=4"]
    words = ["--agent", "protonet", *(word for pair in tiny for word in ("--set", pair))]
    assert "test on glyphs: accuracy" in command("runners", "run", "--env", "glyphs", *words)


def test_regression_is_refused_in_one_line(package):
    with pytest.raises(AssertionError, match=r"^fsl: the agent 'protonet' .* regression has no classes; .*\n$"):
        package[1]("runners", "run", "--env", "sine", "--agent", "protonet")


def test_its_own_test_passes(package):
    copy, command = package
    assert "6 passed" in command("pytest", "-p", "no:cacheprovider", "-W", "error", cwd=copy)


def test_the_page_shows_the_package_as_it_is():
    files = "".join((EXAMPLE / f).read_text() for f in ("pyproject.toml", "fewshot_protonet/agent.py"))
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    assert all(block in files for block in blocks)
