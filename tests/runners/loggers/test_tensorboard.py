"""TensorBoard as people see it: a finished run, in a real browser."""

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.browser import chromium
from tests.helpers.cli import IMAGES, SMALL_NET, TINY, main, only_run, sets

WAIT = 120_000  # ms, on a busy machine


@contextmanager
def tensorboard(folder):
    """TensorBoard over a folder; gives its address."""
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            address = next(word for line in server.stderr for word in line.split() if word.startswith("http://127"))
            yield address
        finally:
            server.kill()


def loaded(address, runs):
    """Wait until so many runs are read to their end, which is their last scalar."""
    for _ in range(240):
        with urllib.request.urlopen(f"{address}data/plugin/scalars/tags") as answer:
            tags = json.load(answer)
        if sum("test/mse" in found for found in tags.values()) == 2 * runs:  # each, and its settings with the result
            return
        time.sleep(0.5)
    raise AssertionError(f"TensorBoard read only {tags}")


@pytest.mark.slow
def test_a_finished_run_in_tensorboard(tmp_path):
    for agent in ("turtle", "lstm"):
        words = ["run", "--env", "sine", "--agent", agent, "--log-dir", tmp_path]
        assert main(*words, *sets(*TINY, "agent.inner_steps=2")) == 0
    with chromium() as browser, tensorboard(tmp_path) as address:
        loaded(address, 2)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(WAIT)

        def shows(*texts):
            for text in texts:
                page.get_by_text(text, exact=True).first.wait_for()

        page.goto(f"{address}#scalars")
        shows("train", "val", "test", "inner", "val_inner")

        page.goto(f"{address}#images")
        shows("learned/response", "learned/update", "learned/gates/forget", "test/episode")
        picture = page.locator("img[src*='plugin/images/individualImage']").first
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300

        page.goto(f"{address}#custom_scalars")
        shows("mse, train and val", "mse, val, 95 % interval", "support loss by inner step (val)", "rates/layer0")
        shows("Matches (4)")  # train and val of two runs

        page.goto(f"{address}#hparams")
        shows("agent.beta", "agent.raw_gradients", "turtle", "lstm", "test/mse")  # settings of either agent

        page.goto(f"{address}#projector")
        inside = page.frame_locator("iframe").first.frame_locator("iframe")
        inside.get_by_text("2 runs found").first.wait_for()


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = ["run", "--env", "glyphs", "--agent", "turtle", "--log-dir", folder]
    assert main(*words, *sets(*TINY, *IMAGES, *SMALL_NET)) == 0
    return only_run(folder)


def test_what_is_logged_of_images(image_run):
    events = EventAccumulator(str(image_run), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {"val/episode", "test/episode", "learned/update", "learned/response"} <= set(tags["images"])
    assert [e.step for e in events.Images("learned/response")] == [0, 12, 24]
    wanted = {"val_inner/loss_0", "val_inner/grad_norm_0", "val_inner/update_norm_0", "val/low", "val/high"}
    wanted |= {f"rates/{layer}/{q}" for layer in ("block0", "head") for q in ("low", "median", "high")}
    assert wanted <= set(tags["scalars"])
    for step in range(3):
        low, median, high = (events.Scalars(f"rates/head/{q}")[step].value for q in ("low", "median", "high"))
        assert 0 <= low < median < high <= 1
    charts = [json.loads(line) for line in (image_run / "charts.jsonl").read_text().splitlines()]
    assert [(c["tasks"], c["name"]) for c in charts[:2]] == [(0, "update"), (0, "response")]
    assert len(charts[1]["x"]) == len(charts[1]["lines"]["step 1"]) == 61


def test_the_embedding_of_a_test_episode(image_run):
    lines = (image_run / "00024" / "test_episode" / "metadata.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["class", "answer", "right"]
    truth = [line.split("\t") for line in lines[1:]]
    assert len(truth) == 3 * 2
    assert sorted(row[0] for row in truth) == ["0", "0", "1", "1", "2", "2"]
    assert all((row[0] == row[1]) == (row[2] == "True") for row in truth)
    assert len((image_run / "00024" / "test_episode" / "tensors.tsv").read_text().splitlines()) == 6
