"""The unquoted arrow: a shell reads `--env mini->cub` as `--env mini-` with the output sent to a file `cub`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from fewshot_env.errors import FewShotError


def rescue(words: Sequence[str]) -> list[str]:
    """The command line as it was meant: `--env 'mini->cub'`, with stdout back on the terminal, else on stderr.

    That is done where stdout is a file of the current folder with an environment's name. The file is removed if it is
    empty, and never touched otherwise. Raises FewShotError where `--env` ends in '-' and there is no such file.
    """
    words = list(words)
    at = next((i for i, word in enumerate(words) if word == "--env" or word.startswith("--env=")), None)
    if at is None:
        return words
    end = at + 1 if words[at] != "--env" else at + 2
    if words[end : end + 1] == ["-"]:  # mini -> cub
        end += 1
    given = "".join(words[at:end]).removeprefix("--env").removeprefix("=")
    if not given.endswith("-"):
        return words
    source = given.removesuffix("-")
    file = _redirected_to(words)
    if file is None:
        raise FewShotError(
            f"--env is {given!r}: a shell takes the > of an unquoted arrow for itself; "
            f"quote it, --env '{source}->TARGET', or write {source}:TARGET, and remove the file that the shell made"
        )
    pair = f"{source}->{file}"
    left = _remove_if_empty(file) if _output_to_terminal() else "There the output goes, since errors go there, too"
    print(
        f"fsl: the shell read {pair} as: write the output to the file {file}. {left}, and {pair} goes on. "
        f"Quote it next time: --env '{pair}'",
        file=sys.stderr,
        flush=True,
    )
    return [*words[:at], "--env", pair, *words[end:]]


def _redirected_to(words: Sequence[str]) -> str | None:
    """The environment whose name the file has that stdout goes to, if it lies in the current folder."""
    from fewshot_env.registry import ENVS, load_plugins, register_prepared

    try:
        out = os.fstat(1)
        if not stat.S_ISREG(out.st_mode):
            return None
    except OSError:
        return None
    load_plugins()
    register_prepared(_value(words, "--data-dir"))
    for name in ENVS:
        try:
            if os.path.samestat(os.lstat(name), out):
                return name
        except OSError:
            continue
    return None


def _value(words: Sequence[str], option: str) -> str | None:
    """What an option is given, if it is."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None


def _output_to_terminal() -> bool:
    """Point stdout at the terminal, or at stderr where there is none.

    After `2>&1` stderr goes to the file, too: both are pointed at the terminal, or, without one, neither. Returns
    whether the output goes elsewhere than to the file.
    """
    sys.stdout.flush()
    both = os.path.samestat(os.fstat(1), os.fstat(2))
    try:
        terminal = 2 if os.isatty(2) else os.open("/dev/tty", os.O_WRONLY)
    except OSError:
        if both:
            return False
        terminal = 2
    os.dup2(terminal, 1)
    if both:
        os.dup2(terminal, 2)
    if terminal > 2:
        os.close(terminal)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return True


def _remove_if_empty(file: str) -> str:
    """Remove the file unless it holds something; what was done, in words."""
    if Path(file).stat().st_size:
        return "That file holds something and stays"
    Path(file).unlink()
    return "That file was empty and is gone"
