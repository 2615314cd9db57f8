"""The unquoted arrow: a shell reads `--env mini->cub` as `--env mini-` with stdout redirected to a file `cub`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from fewshot_env.errors import FewShotError


def repair(words: Sequence[str]) -> list[str]:
    """Return the command line as it was meant, `--env 'mini->cub'`, and point stdout at the terminal (else at stderr).

    This happens where stdout is a file in the current folder that has an environment's name. The file is removed if it
    is empty, and left alone otherwise.

    Raises:
        FewShotError: where `--env` ends in '-' and there is no such file.
    """
    words = list(words)
    start = next((i for i, word in enumerate(words) if word == "--env" or word.startswith("--env=")), None)
    if start is None:
        return words
    end = start + 1 if words[start] != "--env" else start + 2
    if words[end : end + 1] == ["-"]:  # mini -> cub
        end += 1
    value = "".join(words[start:end]).removeprefix("--env").removeprefix("=")
    if not value.endswith("-"):
        return words
    source = value.removesuffix("-")
    file = _redirected_to(words)
    if file is None:
        raise FewShotError(
            f"--env is {value!r}: the shell reads the > of an unquoted arrow as a redirection; "
            f"quote it, --env '{source}->TARGET', or write {source}:TARGET, and remove the file that the shell made"
        )
    pair = f"{source}->{file}"
    done = _remove_if_empty(file) if _output_to_terminal() else "The output goes there, as the errors do"
    print(
        f"fsl: the shell read the > in {pair} as: write the output to the file {file}. {done}; continuing with {pair}. "
        f"Quote it next time: --env '{pair}'",
        file=sys.stderr,
        flush=True,
    )
    return [*words[:start], "--env", pair, *words[end:]]


def _redirected_to(words: Sequence[str]) -> str | None:
    """The name of the file that stdout goes to, where it is in the current folder and names an environment."""
    from fewshot_env.registry import ENVS, load_plugins, register_prepared

    try:
        stdout = os.fstat(1)
        if not stat.S_ISREG(stdout.st_mode):
            return None
    except OSError:
        return None
    load_plugins()
    register_prepared(_value(words, "--data-dir"))
    for name in ENVS:
        try:
            if os.path.samestat(os.lstat(name), stdout):
                return name
        except OSError:
            continue
    return None


def _value(words: Sequence[str], option: str) -> str | None:
    """The value of an option, if it is given."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None


def _output_to_terminal() -> bool:
    """Point stdout at the terminal, or at stderr where there is none; returns whether it no longer goes to the file.

    After `2>&1` stderr goes to the file, too: then both are pointed at the terminal, or, without one, neither.
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
    """Remove the file if it is empty; returns what was done, in words."""
    if Path(file).stat().st_size:
        return "That file is not empty and was kept"
    Path(file).unlink()
    return "That file was empty and was removed"
