"""`fsl report`: the page in a real browser, and what is refused."""

import re
import shutil

import pytest

from tests.helpers.browser import chromium
from tests.helpers.cli import IMAGES, SMALL_NET, TINY, main, only_run, result_of, sets


@pytest.fixture(scope="module", params=["sine", "glyphs"])
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    own = ["agent.inner_steps=3"] if request.param == "sine" else [*SMALL_NET, *IMAGES]
    assert main("run", "--env", request.param, "--agent", "lstm", "--log-dir", folder, *sets(*TINY, *own)) == 0
    run = only_run(folder)
    assert main("report", run) == 0
    return run


def test_the_page_holds_what_was_found(finished):
    page, result = (finished / "report.html").read_text(), result_of(finished)
    assert f"{result['mean']:.3f}" in page
    assert result["episode_hash"] in page
    for figure in ("learning", "inner loop", "test", "adaptation", "update", "gates/forget", "gates/rate over time"):
        assert f'aria-label="{figure}"' in page
    assert ("data:image/png;base64," in page) == (result["env"] == "glyphs")
    assert ('aria-label="episode"' in page) == (result["env"] == "sine")
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_the_page_in_a_browser(finished):
    with chromium() as browser:
        for scheme, width in (("light", 1200), ("dark", 1200), ("dark", 390)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            asked, said = [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto((finished / "report.html").as_uri())
            assert [url for url in asked if not url.startswith("data:")] == [(finished / "report.html").as_uri()]
            assert said == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
            assert dark == (scheme == "dark")
            assert page.locator("figure svg").first.bounding_box()["width"] > 250
            colour = page.locator("figure svg text").first.evaluate("text => getComputedStyle(text).fill")
            assert colour == ("rgb(228, 231, 234)" if dark else "rgb(29, 33, 38)")


def test_names_and_settings_are_text_not_html(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    result = (copy / "result.json").read_text()
    (copy / "result.json").write_text(result.replace('"agent": "lstm"', '"agent": "<script>alert(1)</script>"'))
    assert main("report", copy, "--out", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_run_whose_weights_are_gone_is_reported_without_episodes(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("best.pt"))
    assert main("report", copy) == 0
    page = (copy / "report.html").read_text()
    assert "Not shown: there is no checkpoint" in page
    assert 'aria-label="adaptation"' not in page
    assert 'aria-label="learning"' in page


def test_what_cannot_be_reported_is_refused_in_one_line(finished, tmp_path, capsys):
    unfinished, group = tmp_path / "unfinished", tmp_path / "group"
    shutil.copytree(finished, unfinished, ignore=shutil.ignore_patterns("result.json", "report.html"))
    for seed in (0, 1):
        shutil.copytree(finished, group / f"seed{seed}")
    for run, message in (
        (unfinished, "has no result yet"),
        (group, "holds 2 runs; name one of them"),
        (tmp_path / "nothing", "; name one of a run"),
    ):
        assert main("report", run) == 2
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1
        assert message in error[0]
    assert not (unfinished / "report.html").exists()
