"""Typer's complaints about a command line in one line of ours: what was wrong, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.exceptions import TyperException

from fewshot_env.errors import suggest


def in_one_line(error: TyperException, words: Sequence[str]) -> str:
    """The complaint about the command line `words`, with the nearest name where one is unknown."""
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context else " ".join(["fsl", *[w for w in words[:1] if w[0] != "-"]])
    unknown, param = getattr(error, "option_name", None), getattr(error, "param", None)
    message = error.format_message().rstrip(".")
    if message.startswith("No such option"):
        options = (each for each in context.command.get_params(context) if each.param_type_name == "option")
        known = [name for each in options for name in each.opts]
        return f"{command} has no option {unknown}{suggest(str(unknown), known)}; {command} --help lists them"
    if message.startswith("No such command"):
        name = message.split("'")[1]
        known = context.command.list_commands(context)
        return f"{command} has no command {name!r}{suggest(name, known)}; {command} --help lists them"
    if message.startswith("Invalid value") and param is not None:
        reason = message.partition(": ")[2]
        option, given = max(param.opts, key=len), _given(param.opts, words)
        message = f"{option} is {given!r}, but: {reason}" if given is not None else message
    if message.startswith("Got unexpected extra argument"):
        message = f"{command} has no place for {message.rpartition('(')[2].rstrip(')')!r}"
    return f"{message[0].lower()}{message[1:]}; see {command} --help"


def _given(options: Sequence[str], words: Sequence[str]) -> str | None:
    """What one of the options was given last."""
    for word, following in reversed(list(zip(words, [*words[1:], ""], strict=True))):
        name, equals, value = word.partition("=")
        if name in options:
            return value if equals else following
    return None
