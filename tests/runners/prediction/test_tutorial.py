"""The tutorial docs/classify.md, typed as it is written; and its page as a browser shows it."""

import re
import shlex

import numpy as np
import pytest

from tests.helpers.browser import chromium
from tests.helpers.cli import ROOT, main, only_run

PAGE = (ROOT / "docs" / "classify.md").read_text()


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "classify.md", "exec"), {})
    commands = [line.strip() for line in PAGE.splitlines() if line.startswith("    fsl ")]
    assert len(commands) == 7
    for command in commands:
        run = str(only_run("runs")) if (tmp_path / "runs").exists() else ""
        words = shlex.split(command.replace("runs/NAME", run))[1:]
        tiny = ["--set", "test_tasks=20"] if words[0] in ("run", "eval") else []
        assert main(*words, *tiny) == 0, command
    lines = (tmp_path / "new.csv").read_text().splitlines()
    assert lines[0] == "file,predicted,p(ant),p(bee),p(cat)"
    assert len(lines) == 25
    assert "24 images: " in capsys.readouterr().out
    from_python = re.findall(r"^    found.*(?:\n    found.*)*", PAGE, re.MULTILINE)
    assert len(from_python) == 1
    import runners

    code = "\n".join(line.strip() for line in from_python[0].splitlines()).replace("runs/NAME", run)
    exec(code, {"runners": runners})


@pytest.mark.slow
def test_the_page_is_shown_without_a_network(runs, photos):
    page = photos / "page.html"
    words = ["--support", photos / "support", "--images", photos / "new", "--html", page, "--quiet"]
    assert main("predict", runs("protonet"), *words) == 0
    with chromium() as browser:
        for width in (1000, 400):
            view = browser.new_page(viewport={"width": width, "height": 800})
            asked = []
            view.on("request", lambda request, asked=asked: asked.append(request.url))
            view.goto(page.as_uri())
            sizes = view.evaluate("[...document.images].map(i => i.naturalWidth)")
            assert len(sizes) == 12 + 6
            assert np.min(sizes) > 0
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
