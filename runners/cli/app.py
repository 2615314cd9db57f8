"""The commands of `fsl`, in the order of its help."""

from __future__ import annotations

from typing import Annotated

import typer

from runners.cli.bench import bench
from runners.cli.compare import compare
from runners.cli.data import data_app
from runners.cli.eval import eval_
from runners.cli.export import export
from runners.cli.list import list_
from runners.cli.predict import predict
from runners.cli.replay import replay
from runners.cli.report import report
from runners.cli.reproduce import reproduce
from runners.cli.run import run
from runners.cli.runs import runs
from runners.cli.show import show

app = typer.Typer(
    name="fsl",
    epilog="First run: fsl run --env sine --agent turtle --preset quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
TRAIN, INSPECT, PREPARE = "Train and test", "Inspect", "Prepare and measure"
app.command(rich_help_panel=TRAIN)(run)
app.command(name="eval", rich_help_panel=TRAIN)(eval_)
app.command(rich_help_panel=TRAIN)(predict)
app.command(rich_help_panel=TRAIN)(export)
app.command(rich_help_panel=TRAIN)(reproduce)
app.command(name="list", rich_help_panel=INSPECT)(list_)
app.command(rich_help_panel=INSPECT)(show)
app.command(rich_help_panel=INSPECT)(runs)
app.command(rich_help_panel=INSPECT)(compare)
app.command(rich_help_panel=INSPECT)(report)
app.command(rich_help_panel=INSPECT)(replay)
app.add_typer(data_app, name="data", rich_help_panel=PREPARE)
app.command(rich_help_panel=PREPARE)(bench)


def _print_versions(wanted: bool) -> None:
    if wanted:
        from runners.config.plan import versions

        print(", ".join(f"{name} {number}" for name, number in versions().items()))
        raise typer.Exit


@app.callback()
def _fsl(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_versions, is_eager=True, help="Print the versions that results depend on."
        ),
    ] = False,
) -> None:
    """Train and test meta-learning agents on few-shot tasks."""
