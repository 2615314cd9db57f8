"""Preparations that end early: killed, out of space, two at once, interrupted downloads."""

import gc
import hashlib
import http.server
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import pytest
from filelock import FileLock

from fewshot_env.data.download import Remote
from fewshot_env.data.workspace import put_in_place, workspace
from fewshot_env.datasets import DATASETS
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from tests.helpers.cli import ROOT, fsl, main
from tests.helpers.images import assert_same_images, packed, write_cub, write_mini


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A CUB archive that takes a good part of a second to prepare, and its store."""
    root = tmp_path_factory.mktemp("cub")
    folder = write_cub(root / "whole" / "CUB_200_2011", n_classes=60)
    file = packed(folder.parent, root / "CUB_200_2011.tgz")
    return file, prepare("cub", file, root / "stores")


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("older", [False, True])
def test_killed_at_any_moment(how, older, archive, tmp_path):
    """Eight kills spread over the whole preparation; what is visible is the older store, nothing, or the new one."""
    file, store = archive
    if older:
        prepare("cub", file, tmp_path)
        index = (tmp_path / "cub" / "index.json").read_text()
    code = (
        "import sys; from pathlib import Path; from fewshot_env.prepare import prepare; print('go', flush=True);"
        "prepare('cub', Path(sys.argv[1]), Path(sys.argv[2])); print('done', flush=True)"
    )
    start = time.monotonic()
    prepare("cub", file, tmp_path / "timing")
    takes = time.monotonic() - start
    shutil.rmtree(tmp_path / "timing")
    left = set()
    for moment in range(8):
        words = [sys.executable, "-c", code, str(file), str(tmp_path)]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "go\n"
            time.sleep(takes * (moment + random.Random(moment).random()) / 8)
            process.send_signal(how)
        left |= {p.name for p in tmp_path.iterdir()}
        if (tmp_path / "cub").exists() and older:
            assert (tmp_path / "cub" / "index.json").read_text() == index
    assert ".cub.partial" in left
    assert_same_images(store, prepare("cub", file, tmp_path))
    assert visible(tmp_path) == ["cub"]


def test_killed_between_the_two_renames(tmp_path):
    """The older store comes back at the next preparation, even if that one fails."""
    (tmp_path / ".mini.old").mkdir()
    (tmp_path / ".mini.old" / "index.json").write_text("older")
    (tmp_path / ".cub.partial" / "unpacked").mkdir(parents=True)
    with pytest.raises(FewShotError, match="nowhere does not exist"):
        prepare("omniglot", tmp_path / "nowhere", tmp_path)
    assert visible(tmp_path) == ["mini"]
    assert (tmp_path / "mini" / "index.json").read_text() == "older"


def test_the_finished_store_replaces_the_older_one(tmp_path):
    for text in ("one", "two"):
        with workspace(tmp_path, "mini") as work:
            (work / "store").mkdir()
            (work / "store" / "index.json").write_text(text)
            put_in_place(work / "store", tmp_path / "mini")
        assert (tmp_path / "mini" / "index.json").read_text() == text
        assert visible(tmp_path) == ["mini"]


def test_a_preparation_at_work_is_left_alone(archive, tmp_path):
    (tmp_path / ".cub.partial").mkdir()
    with FileLock(tmp_path / ".cub.lock"):
        with pytest.raises(FewShotError, match="another process is preparing cub"):
            prepare("cub", archive[0], tmp_path)
        prepare("mini", write_mini(tmp_path / "source", n_images=1), tmp_path)
        assert (tmp_path / ".cub.partial").exists()
    assert_same_images(archive[1], prepare("cub", archive[0], tmp_path))
    assert visible(tmp_path) == ["cub", "mini", "source"]


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "message"), [(300_000, "cannot be unpacked"), (2_000_000, "cannot be written")])
def test_a_full_disk(limit, message, archive, tmp_path):
    """No file may grow beyond `limit` bytes: the archive cannot be unpacked, then the array not be written."""
    file = archive[0]
    big = tmp_path / "big.tgz"
    extra = tmp_path / "extra" / "CUB_200_2011"
    extra.mkdir(parents=True)
    shutil.unpack_archive(file, tmp_path / "extra", "gztar", filter="data")
    (extra / "attributes.txt").write_bytes(bytes(1_000_000))
    packed(extra.parent, big)
    words = [sys.executable, "-m", "runners", "data", "prepare", "cub", "--source", big, "--data-dir", tmp_path / "s"]
    limits = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, preexec_fn=limits, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = [x for x in done.stderr.splitlines() if not x.startswith("preparing")]
    assert message in line
    assert "File too large" in line
    assert visible(tmp_path / "s") == []


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `short` cuts every body off after so many bytes, `asked` counts."""

    short: int | None = None
    asked: list[str] = []

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        type(self).asked.append(self.path)
        outputfile.write(source.read() if self.short is None else source.read(self.short))


@pytest.fixture
def served(archive, tmp_path, monkeypatch):
    """A web server with the archive; CUB's address and checksum are those of that file."""
    file = archive[0]
    (tmp_path / "web").mkdir()
    shutil.copy(file, tmp_path / "web")
    monkeypatch.setattr(Server, "short", None)
    monkeypatch.setattr(Server, "asked", [])
    handler = partial(Server, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{file.name}?download=1"
        checksum = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
        monkeypatch.setitem(DATASETS, "cub", replace(DATASETS["cub"], remotes=(Remote(url, checksum),)))
        yield tmp_path / "web" / file.name
        server.shutdown()


def download(folder):
    return main("data", "prepare", "cub", "--download", "--data-dir", folder)


def test_download(served, archive, tmp_path, capsys):
    assert download(tmp_path / "s") == 0
    out = capsys.readouterr().out
    assert "by downloading CUB-200-2011 you accept its terms: non-commercial research" in out
    assert_same_images(archive[1], prepare("cub", served, tmp_path / "t"))
    assert visible(tmp_path / "s") == ["cub"]
    assert len(Server.asked) == 1


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # requests leaves one of a cut download
def test_a_download_that_fails_says_so_and_begins_anew(served, archive, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "s"
    whole = served.read_bytes()
    monkeypatch.setattr(Server, "short", len(whole) // 2)
    assert download(folder) == 2
    assert "cannot be downloaded" in (error := capsys.readouterr().err)
    assert "give its folder with --source" in error
    monkeypatch.setattr(Server, "short", None)
    served.write_text("<html>Sign in</html>")
    assert download(folder) == 2
    assert "gave a file without the checksum sha256:" in capsys.readouterr().err
    served.unlink()
    assert download(folder) == 2
    assert "404" in capsys.readouterr().err
    assert list(folder.rglob("*.tgz*")) == []
    served.write_bytes(whole)
    (folder / ".cub.download" / "tmpkilled").write_bytes(whole[:100])
    assert download(folder) == 0
    capsys.readouterr()
    assert visible(folder) == ["cub"]
    gc.collect()


def test_a_whole_download_is_not_fetched_twice(served, tmp_path, capsys, monkeypatch):
    from fewshot_env.data import write

    def fail(*args):
        raise ValueError("no header")

    with monkeypatch.context() as patch:
        patch.setattr(write, "_header", fail)  # the preparation fails after the download
        with pytest.raises(ValueError, match="no header"):
            prepare("cub", None, tmp_path / "s")
    assert download(tmp_path / "s") == 0
    assert len(Server.asked) == 1
    capsys.readouterr()


def test_no_server(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        DATASETS, "cub", replace(DATASETS["cub"], remotes=(Remote("http://127.0.0.1:9/x.tgz", "sha256:00"),))
    )
    assert download(tmp_path) == 2
    assert "refused" in capsys.readouterr().err


def test_what_cannot_be_downloaded_says_what_to_get(tmp_path, capsys):
    assert main("data", "prepare", "mini", "--download", "--data-dir", tmp_path) == 2
    assert "has no stable public address: get a folder with images/ and train.csv" in capsys.readouterr().err
    assert main("data", "prepare", "mini", "--data-dir", tmp_path) == 2
    assert "give either --source PATH or --download" in capsys.readouterr().err
    assert main("data", "prepare", "my-birds", "--download", "--data-dir", tmp_path) == 2
    assert "my-birds has no stable public address" in capsys.readouterr().err


def test_public_addresses_have_checksums():
    for kind in DATASETS.values():
        for remote in kind.remotes:
            algorithm, _, digest = remote.checksum.partition(":")
            assert len(digest) == {"sha256": 64, "md5": 32}[algorithm]
            assert remote.url.startswith("https://")


@pytest.mark.slow
def test_interrupt_leaves_nothing(archive, tmp_path):
    words = [sys.executable, "-m", "runners", "data", "prepare", "cub", "--source", archive[0], "--data-dir", tmp_path]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        for _ in range(1000):
            if (tmp_path / ".cub.partial").exists():
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert process.returncode in (130, 0)
    assert visible(tmp_path) in ([], ["cub"])
    assert os.listdir(tmp_path)
    fsl("data", "prepare", "cub", "--source", archive[0], "--data-dir", tmp_path)
