"""The project's own files agree with each other."""

import tomllib

import yaml

from tests.helpers.cli import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_and_the_changelog_know_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"\n## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_the_hooks_are_the_linters_of_ci_and_local():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert {hook["entry"].split()[0] for hook in repository["hooks"]} == {".venv/bin/ruff", ".venv/bin/mypy"}
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(hook["entry"].split()[0] in ci for hook in repository["hooks"])


def test_contributing_is_four_commands():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len([line for line in text.splitlines() if line.startswith("    ")]) == 4
