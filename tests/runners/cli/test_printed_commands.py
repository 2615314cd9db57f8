"""Every command that is printed can be pasted into a shell, whatever the folders are called."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_env.datasets import open_store
from fewshot_env.errors import FewShotError, command
from fewshot_env.store import ImageStore, data_dir
from runners.training.step import outer_step
from tests.helpers.cli import MAML, ROOT, TINY, main, only_run, result_of, sets
from tests.helpers.images import write_mini

ODD = "my 'odd' $runs"
HARD = [ODD, "two  spaces", "-dash", "`echo x`; #", "a\nb\t'c'\\d", "~", '"', "!x", "mini->cub", "\udcff", "naïve"]
NAMES = [ascii(name) for name in HARD]  # a test's name cannot hold half of a surrogate pair
WORDS = [*MAML, *sets(*TINY, "loggers=[]")]
ECHO = 'for name in fsl tensorboard pip; do eval "$name() { printf \'%s\\\\0\' $name \\"\\$@\\"; }"; done\n'


def read_by_bash(line):
    """The words that bash reads in a command line, printed by functions called like the programs."""
    done = subprocess.run(["bash", "-c", ECHO + line], capture_output=True, check=True)
    return os.fsdecode(done.stdout).split("\0")[:-1]


def interrupted(log_dir, monkeypatch, capsys, words=WORDS):
    """The command that an interrupted run prints to continue it."""

    def step(*args, **more):
        os.kill(os.getpid(), signal.SIGINT)
        return outer_step(*args, **more)

    monkeypatch.setattr("runners.training.trainer.outer_step", step)
    assert main(*words, "--log-dir", log_dir) == 130
    monkeypatch.setattr("runners.training.trainer.outer_step", outer_step)
    return after("interrupted; continue with: ", capsys.readouterr().err)


def after(words, text, end="\n"):
    """What stands in a text after some words, up to an end."""
    assert words in text, text
    return text.partition(words)[2].partition(end)[0]


@pytest.mark.parametrize("name", HARD, ids=NAMES)
def test_a_shell_reads_the_words_that_were_written(name):
    words = ["fsl", "run", "--resume", name, "--env", "sine->glyphs", "PATH"]
    assert read_by_bash(command(*words)) == words
    assert "\n" not in command(*words)
    assert command(*words).endswith(" --env 'sine->glyphs' PATH")
    path = Path(name)
    assert Path(read_by_bash(command("fsl", "eval", path))[2]) == path
    assert not read_by_bash(command("fsl", "eval", path))[2].startswith("-")
    error = str(FewShotError(f"it failed; continue with: {command(*words)}"))
    assert read_by_bash(error.partition(": ")[2]) == words


def test_what_a_run_in_an_odd_folder_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = interrupted(ODD, monkeypatch, capsys)
    run = only_run(tmp_path / ODD)
    assert not (run / "result.json").exists()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert result_of(run)["trained_tasks"] == 24
    assert shlex.split(after("see it: ", done.stderr)) == ["tensorboard", "--logdir", ODD]

    assert main("run", "--resume", Path(ODD) / run.name) == 2  # it is finished
    program, *words = shlex.split(after("its result is in result.json (", capsys.readouterr().err, " tests it again)"))
    assert program == "fsl"
    assert main(*words) == 0
    assert list(run.glob("eval-sine-*.json"))


@pytest.mark.parametrize(
    "name", [name for name in HARD[1:] if name.isascii() and name != "~"]
)  # xdist cannot report others
def test_resuming_in_folders_of_hard_names(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program, *words = read_by_bash(interrupted(name, monkeypatch, capsys))
    assert program == "fsl"
    assert main(*words) == 0
    assert result_of(only_run(tmp_path / name))["trained_tasks"] == 24
    (logdir,) = read_by_bash(after("see it: ", capsys.readouterr().err))[2:]
    assert Path(logdir) == Path(name)


@pytest.mark.slow
def test_several_seeds_of_a_pair_in_an_odd_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = interrupted(ODD, monkeypatch, capsys, [*WORDS, "--env", "sine->sine", "--seeds", 2])
    program, *words = shlex.split(line)
    assert (program, main(*words)) == ("fsl", 0)
    group = only_run(tmp_path / ODD)
    assert shlex.split(after("see it: ", capsys.readouterr().err)) == [
        "tensorboard", "--logdir", str(group.relative_to(tmp_path))
    ]  # fmt: skip


def test_results_that_are_missing_or_damaged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    interrupted(ODD, monkeypatch, capsys)
    run = Path(ODD) / only_run(tmp_path / ODD).name
    assert main("report", run) == 2
    words = shlex.split(after("has no result yet; finish it with: ", capsys.readouterr().err))
    assert words == ["fsl", "run", "--resume", str(run)]
    (run / "result.json").write_text("{}")
    assert main("report", run) == 2
    assert shlex.split(after("remove it, then: ", capsys.readouterr().err)) == words
    (run / "result.json").unlink()
    assert main(*words[1:]) == 0


def test_a_step_that_is_not_finite_is_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(*WORDS, *sets("agent.inner_lr=1e38", "agent.inner_clip=null"), "--log-dir", ODD)
    program, *words = shlex.split(after("; see it: ", capsys.readouterr().err))
    assert (program, main(*words)) == ("fsl", 0)


@pytest.mark.parametrize("name", ["my 'odd' $data", "-data"])
def test_preparing_data_in_an_odd_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FewShotError) as error:
        open_store("mini", Path(name))
    program, *words = shlex.split(after("then run: ", str(error.value)))
    assert words[:5] == ["data", "prepare", "mini", "--source", "PATH"]
    source = write_mini(tmp_path / "mini images", n_images=2)
    assert main(*[str(source) if word == "PATH" else word for word in words]) == 0
    assert open_store("mini", Path(name)).name == "mini"
    (Path(name) / "mini" / "index.json").write_text("{}")
    with pytest.raises(FewShotError) as error:
        ImageStore.open(Path(name) / "mini")
    assert shlex.split(after("prepare it again: ", str(error.value))) == [program, *words]


def test_the_default_folder_of_the_data_is_not_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_HOME", str(tmp_path))
    with pytest.raises(FewShotError, match=r"then run: fsl data prepare mini --source PATH$"):
        open_store("mini", data_dir())
    with pytest.raises(FewShotError, match=r"prepare cub --source PATH \(or --download instead of --source PATH\)$"):
        open_store("cub", data_dir())


def test_what_the_grids_and_the_list_say_about_missing_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main("reproduce", "table1", "--data-dir", "my data") == 2
    words = shlex.split(after(": run ", capsys.readouterr().err, " and "))
    assert words[:6] + words[-1:] == ["fsl", "data", "prepare", "mini", "--source", "PATH", str(tmp_path / "my data")]
    assert main("list", "--data-dir", "my data") == 0
    told = re.search(r"no data: (.*) says how to get it", capsys.readouterr().out)[1]
    assert shlex.split(told) == ["fsl", "data", "list", "--data-dir", "my data"]
    assert main(*shlex.split(told)[1:]) == 0


def test_no_command_is_put_together_by_hand():
    """In messages: after an f-string's `fsl ...` with a value, `command` is what quotes it."""
    by_hand = re.compile(r"""(?:fsl (?:run|eval|replay|data|bench|reproduce|report|compare|show)|--logdir)[^"']*\{""")
    files = [file for package in ("runners", "agents", "fewshot_env") for file in (ROOT / package).rglob("*.py")]
    found = {str(f.relative_to(ROOT)) for f in files for line in f.read_text().splitlines() if by_hand.search(line)}
    assert found == set()
