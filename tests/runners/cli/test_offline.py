"""No command but `--download` speaks to a network."""

import subprocess
import sys

import pytest

from tests.helpers.cli import IMAGES, ROOT, SMALL_NET, TINY, only_run, sets

pytestmark = pytest.mark.slow

WATCHED = """
import sys
def hook(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":  # a name of this machine, asked of its kernel
        sys.__stderr__.write(f"NETWORK {event} {args[1:]}\\n")
sys.addaudithook(hook)
from runners.cli.main import main
"""
ALL = """
given = sys.argv[1:]
for words in " ".join(given).split(" THEN "):
    sys.argv[1:] = words.split()
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""
NOWHERE = """
from dataclasses import replace
from fewshot_env.data.download import Remote
from fewshot_env.datasets import DATASETS
DATASETS["cub"] = replace(DATASETS["cub"], remotes=(Remote("http://127.0.0.1:9/x.tgz", "sha256:00"),))
"""


def watched(*words, first="", act="main()"):
    """Run `fsl`; its exit code, what it did with sockets, and what it said."""
    command = [sys.executable, "-c", first + WATCHED + act, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("NETWORK")], done.stderr


def test_neither_a_run_nor_a_command_that_shows_it_opens_a_socket(tmp_path, data_dir):
    words = ["run", "--env", "mini->cub", "--agent", "maml", *sets(*TINY, *SMALL_NET, *IMAGES)]
    code, seen, err = watched(*words, "--data-dir", data_dir, "--log-dir", tmp_path)
    assert code == 0, err
    assert seen == []
    run = only_run(tmp_path)
    looks = f"eval {run} THEN report {run} THEN compare {run} {run} THEN runs {tmp_path}"
    grid = f"reproduce fig4 --report-only --out {tmp_path}"
    code, seen, err = watched(f"{looks} THEN {grid}", act=ALL)
    assert code == 0, err
    assert seen == []


@pytest.mark.parametrize("words", [["list"], ["show", "turtle"], ["data", "list"]])
def test_neither_do_the_other_commands(words):
    assert watched(*words)[:2] == (0, [])


def test_preparing_from_a_folder(tmp_path, data_dir):
    words = ["data", "prepare", "mini", "--source", data_dir.parent / "mini-source", "--data-dir", tmp_path]
    assert watched(*words)[:2] == (0, [])


def test_the_watch_would_see_a_download(tmp_path):
    code, seen, _ = watched("data", "prepare", "cub", "--download", "--data-dir", tmp_path, first=NOWHERE)
    assert code == 2
    assert any("socket.connect" in line and "127.0.0.1" in line for line in seen)
