"""The literal command of a hurried user, `fsl run --env mini->cub --agent turtle`, in real shells."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.cli import ROOT, TINY, sets

COMMAND = "fsl run --env mini->cub --agent turtle"
MENDED = "['run', '--env', 'mini->cub', '--agent', 'turtle']"
IN_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@pytest.fixture(params=["bash", "zsh", "dash", "fish"])
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param}")
    return request.param


@pytest.fixture
def in_shell(tmp_path):
    """Run a line in a shell, in an empty folder: with or without a terminal, `fsl` being some lines of Python."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()

    def run(shell, line, program="from runners.cli.arrow import repair; print(repair(sys.argv[1:]))", terminal=False):
        fsl = tmp_path / "bin" / "fsl"
        fsl.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{program}\n")
        fsl.chmod(0o755)
        place = {"PATH": f"{fsl.parent}{os.pathsep}{os.environ['PATH']}", "FSL_HOME": str(tmp_path), "TERM": "dumb"}
        words = [sys.executable, "-c", IN_TERMINAL] if terminal else []
        return subprocess.run(
            [*words, shell, "-c", line], cwd=tmp_path / "here", env=os.environ | place, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    run.here = tmp_path / "here"
    return run


@pytest.mark.slow
def test_without_a_terminal_the_output_goes_to_stderr(shell, in_shell):
    done = in_shell(shell, COMMAND)
    assert done.returncode == 0, done.stderr
    told, words = done.stderr.splitlines()
    assert told.startswith("fsl: the shell read the > in mini->cub as")
    assert "--env 'mini->cub'" in told
    assert words == MENDED
    assert done.stdout == ""
    assert list(in_shell.here.iterdir()) == []


@pytest.mark.slow
def test_errors_sent_after_the_output_are_not_lost(shell, in_shell):
    """`2>&1` sends stderr into the file, too: without a terminal the file is all there is, and it is kept."""
    done = in_shell(shell, f"{COMMAND} 2>&1")
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    told, words = (in_shell.here / "cub").read_text().splitlines()
    assert "The output goes there, as the errors do" in told
    assert words == MENDED
    shown = in_shell(shell, f"rm cub; {COMMAND} 2>&1", terminal=True).stdout.splitlines()
    assert shown[-1] == MENDED
    assert list(in_shell.here.iterdir()) == []


@pytest.mark.slow
def test_in_a_terminal_the_output_comes_back_to_it(shell, in_shell):
    done = in_shell(shell, f"{COMMAND} 2>err", terminal=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip() == MENDED
    assert [p.name for p in in_shell.here.iterdir()] == ["err"]
    assert "Quote it" in (in_shell.here / "err").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--env=mini->cub", "--env mini -> cub", "--env mini-> cub", "--env mini ->cub"])
def test_other_ways_to_write_it(words, in_shell):
    done = in_shell("sh", f"fsl run {words} --agent turtle")
    assert done.stderr.splitlines()[-1] == MENDED
    assert list(in_shell.here.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_holds_something_stays(in_shell):
    (in_shell.here / "cub").write_text("a thesis\n")
    done = in_shell("sh", COMMAND.replace(">", ">>"))
    assert "is not empty and was kept" in done.stderr
    assert done.stderr.splitlines()[-1] == MENDED
    assert (in_shell.here / "cub").read_text() == "a thesis\n"


@pytest.mark.slow
def test_prepared_custom_images_are_known(in_shell, tmp_path):
    for home in (tmp_path / "data", tmp_path / "elsewhere"):
        (home / f"birds-{home.name}").mkdir(parents=True)
        (home / f"birds-{home.name}" / "index.json").write_text("{}")
    assert "'mini->birds-data'" in in_shell("sh", "fsl run --env mini->birds-data").stderr
    line = f"fsl run --env mini->birds-elsewhere --data-dir {tmp_path}/elsewhere"
    assert "'mini->birds-elsewhere'" in in_shell("sh", line).stderr
    assert list(in_shell.here.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("line", ["fsl run --env mini->notes.txt", "fsl run --env mini- >/dev/null"])
def test_what_cannot_be_rescued_is_reported(line, in_shell):
    done = in_shell("sh", line, "from runners.cli.main import main; main()")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the shell reads the > of an unquoted arrow as a redirection; quote it, --env 'mini->TARGET'" in done.stderr


@pytest.mark.parametrize("words", [[], ["--env"], ["--env", "mini->cub"], ["list"], ["run", "--agent", "a-"]])
def test_other_command_lines_stay_as_they_are(words):
    from runners.cli.arrow import repair

    assert repair(words) == words


@pytest.mark.slow
def test_the_whole_command_and_eval(in_shell, data_dir, tmp_path):
    small = " ".join(sets(*TINY, "env.n_query=2", "agent.filters=4", "agent.inner_steps=1"))
    line = f"{COMMAND} --data-dir {data_dir} --log-dir {tmp_path}/runs --n-way 3 {small}"
    done = in_shell("sh", line, "from runners.cli.main import main; main()")
    assert done.returncode == 0, done.stderr
    assert "test on cub: accuracy" in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "result.json").read_text())["env"] == "mini->cub"
    done = in_shell("sh", f"fsl eval {run} --env mini->cub", "from runners.cli.main import main; main()")
    assert "--env is 'mini->cub', but a test has one environment" in done.stderr
    assert list(in_shell.here.iterdir()) == []
