"""The command line `fsl`: its commands, and what becomes of errors. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import io
import signal
import sys
import warnings

import typer
from typer.exceptions import TyperException

from fewshot_env.errors import FewShotError, is_out_of_memory, said
from runners.cli import arrow, usage
from runners.cli.about import about
from runners.cli.bench import bench
from runners.cli.compare import compare, report
from runners.cli.data import data_app
from runners.cli.list import list_, show
from runners.cli.replay import replay
from runners.cli.reproduce import reproduce
from runners.cli.run import eval_, run
from runners.cli.runs import runs

app = typer.Typer(
    name="fsl",
    help="Few-shot task environments and meta-learning agents.",
    epilog="First run: fsl run --env sine --agent turtle --preset quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
MEMORY = "out of memory ({}); use a smaller eval_batch, env.n_query, agent.meta_batch or network"
TRAIN, LOOK, PREPARE = "Train and test", "Look up", "Prepare and measure"
app.callback()(about)
app.command(rich_help_panel=TRAIN)(run)
app.command(name="eval", rich_help_panel=TRAIN)(eval_)
app.command(rich_help_panel=TRAIN)(reproduce)
app.command(rich_help_panel=LOOK)(runs)
app.command(name="list", rich_help_panel=LOOK)(list_)
app.command(rich_help_panel=LOOK)(show)
app.command(rich_help_panel=LOOK)(compare)
app.command(rich_help_panel=LOOK)(report)
app.command(rich_help_panel=LOOK)(replay)
app.add_typer(data_app, name="data", rich_help_panel=PREPARE)
app.command(rich_help_panel=PREPARE)(bench)


def main() -> None:
    """Run `fsl`; bad input ends with one line and exit code 2, Ctrl-C with 130 and SIGTERM with 143.

    A warning is one line, too, and what a stream can not encode is written with backslashes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"fsl: warning: {message}\n"
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    words = sys.argv[1:]
    try:
        _check_agents()
        words = arrow.rescue(words)
        sys.exit(app(words, prog_name="fsl", standalone_mode=False))
    except KeyboardInterrupt:
        sys.exit(130)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
        else:
            print(f"fsl: {FewShotError(usage.in_one_line(error, words))}", file=sys.stderr)
        sys.exit(2)
    except (FewShotError, OSError) as error:
        print(f"fsl: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if is_out_of_memory(error):
            print(f"fsl: {FewShotError(MEMORY.format(error))}", file=sys.stderr)
            sys.exit(2)
        print(f"fsl: an unexpected error: {FewShotError(said(error))}; --verbose shows the way there", file=sys.stderr)
        sys.exit(1)


def _check_agents() -> None:
    """Raise FewShotError where `import agents` brings another package, as the one that openai-agents installs."""
    try:
        import agents

        if hasattr(agents, "AGENTS") and hasattr(agents, "make"):
            return
        reason = f"it is {agents.__file__ or list(agents.__path__)}"
    except ImportError as error:
        reason = str(error)
    raise FewShotError(
        f"the package `agents` that Python finds is not fewshot's ({reason}); another distribution (openai-agents has "
        "one of that name) or a folder of yours hides it: use fewshot in an environment of its own"
    )
