"""Start `fsl` and turn errors into one line and an exit code.

At the top only the standard library is imported, so that Ctrl-C is handled before anything slow begins.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typer.exceptions import TyperException

MEMORY = "out of memory ({}); use a smaller eval_batch, env.n_query, agent.meta_batch or network"


def main() -> None:
    """Run `fsl` and exit: with 0, 2 (bad input), 130 (Ctrl-C), 143 (SIGTERM), or 1 (anything unexpected)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise fsl was started to ignore Ctrl-C
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is written with backslashes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"fsl: warning: {message}\n"
    try:
        sys.exit(_run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but exit at once during an import: torch aborts there, and nothing needs cleaning up."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def _run(words: list[str]) -> int:
    """Run a command line; returns the exit code. Whatever goes wrong is printed as one line."""
    from typer.exceptions import TyperException

    from fewshot_env.errors import FewShotError, is_out_of_memory, said
    from runners.distributed.stop import RunEnded

    try:
        _check_agents()
        from runners.cli.app import app
        from runners.cli.arrow import repair

        words = repair(words)
        return app(words, prog_name="fsl", standalone_mode=False) or 0
    except RunEnded as ended:
        return ended.code
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
        else:
            print(f"fsl: {FewShotError(_usage_error(error, words))}", file=sys.stderr)
        return 2
    except (FewShotError, OSError) as error:
        print(f"fsl: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if is_out_of_memory(error):
            print(f"fsl: {FewShotError(MEMORY.format(error))}", file=sys.stderr)
            return 2
        print(f"fsl: unexpected error: {FewShotError(said(error))}; --verbose shows the traceback", file=sys.stderr)
        return 1


def _check_agents() -> None:
    """Raise FewShotError where `import agents` finds another package, such as the one that openai-agents installs."""
    from fewshot_env.errors import FewShotError

    try:
        import agents

        if hasattr(agents, "AGENTS") and hasattr(agents, "make"):
            return
        reason = f"it is {agents.__file__ or list(agents.__path__)}"
    except ImportError as error:
        reason = str(error)
    raise FewShotError(
        f"the package `agents` that Python finds is not fewshot's ({reason}); another distribution (openai-agents has "
        "one of that name) or a folder of yours hides it: install fewshot in a virtual environment of its own"
    )


def _usage_error(error: TyperException, words: Sequence[str]) -> str:
    """What is wrong with the command line `words`, in one line, with the nearest name where one is unknown."""
    from pydantic import ValidationError

    from fewshot_env.errors import suggest
    from fewshot_env.settings import first_fault

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
        if isinstance(error.__cause__, ValidationError):
            reason = first_fault(error.__cause__)[1]
        option, value = max(param.opts, key=len), _value_of(param.opts, words)
        message = f"{option} is {value!r}, but: {reason}" if value is not None else message
    if message.startswith("Got unexpected extra argument"):
        message = f"{command} takes no argument {message.rpartition('(')[2].rstrip(')')!r}"
    return f"{message[0].lower()}{message[1:]}; see {command} --help"


def _value_of(options: Sequence[str], words: Sequence[str]) -> str | None:
    """The last value that one of these spellings of an option is given."""
    for word, following in reversed(list(zip(words, [*words[1:], ""], strict=True))):
        name, equals, value = word.partition("=")
        if name in options:
            return value if equals else following
    return None
