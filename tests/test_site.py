"""The documentation site builds without a warning, holds what the code says, and needs no network."""

import re
import subprocess
import sys
import tomllib

import pytest

from agents import AGENTS
from fewshot_env import ENVS
from tests.helpers.cli import ROOT

pytest.importorskip("zensical", reason="the docs extra is not installed: pip install -e '.[docs]'")
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pages():
    """The built pages by name."""
    words = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "site"
    return {str(p.relative_to(site)): p.read_text() for p in site.rglob("*.html")}


@pytest.mark.slow
def test_nothing_comes_from_the_network(pages):
    for name, page in pages.items():
        assert not re.findall(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//[^"]*"', page), name
        assert not re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(?:https?:)?//[^"]*"', page)


def test_every_page_is_in_the_navigation():
    def leaves(items):
        for item in items:
            for value in item.values():
                yield from [value] if isinstance(value, str) else leaves(value)

    found = {str(p.relative_to(ROOT / "docs")) for p in ROOT.glob("docs/**/*.md")}
    assert found <= set(leaves(CONFIG["nav"]))


@pytest.mark.slow
def test_settings_and_equations_are_drawn(pages):
    turtle = pages["agents/turtle.html"]
    assert turtle.count("<math") == 2
    assert "<code>agent.meta_batch</code></td><td><code>2</code>" in turtle
    assert "<code>agent.inner_steps</code></td><td><code>5</code><br>sine: <code>1</code>" in turtle
    assert "<code>env.height</code>" not in pages["environments.html"]
    assert "<code>env.noise</code>" in pages["environments.html"]


@pytest.mark.slow
def test_the_reference_comes_from_the_docstrings(pages):
    assert "Learn from the support of B tasks" in pages["reference/agents.html"]
    assert 'id="runners.api.run"' in pages["reference/runners.html"]


@pytest.mark.slow
def test_every_name_is_explained(pages):
    agents = "".join(page for name, page in pages.items() if name.startswith("agents/"))
    assert [name for name in AGENTS if f"<code>{name}</code>" not in agents] == []
    assert [name for name in ENVS if f"<code>{name}</code>" not in pages["environments.html"]] == []
