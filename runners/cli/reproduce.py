"""The command `fsl reproduce`. Nothing heavy is imported before the command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot_env.errors import FewShotError
from runners.cli.options import DataDir


def reproduce(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="fig3, fig4, table1, table2, fig5, or all.")],
    scale: Annotated[
        str, typer.Option(help="full: the paper's runs and tasks. quick: far fewer, to see that all works.")
    ] = "quick",
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Run the first N seeds of each cell only; the report is of all runs."),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="JSON", help="Count an earlier report's runs, too; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs and the reports.")] = Path("reproduced"),
    executor: Annotated[
        str, typer.Option(help="here: one after the other. local: processes of this machine. slurm: one array.")
    ] = "here",
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Jobs at once; default: local as many as cores, slurm all.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A parameter of submitit: timeout_min=600, slurm_partition=gpu, ..."),
    ] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing; report what is finished.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Run what a figure or table of the paper still lacks, and report it beside the paper's values."""
    from runners.config.settings import read_pairs
    from runners.reproduce.experiments import find

    experiments = find(what)
    if scale not in ("quick", "full"):
        raise FewShotError(f"--scale is {scale!r}, but must be quick or full")
    from runners.reproduce import executors
    from runners.reproduce.data import with_data

    parameters = read_pairs(cluster or [], "--cluster", "timeout_min=600")
    executors.check(executor, parameters, at_once)
    where = None if data_dir is None else str(data_dir.absolute())
    experiments, left_out = with_data(experiments, where)
    from runners.reproduce.earlier import Earlier
    from runners.reproduce.jobs import missing
    from runners.reproduce.report import write
    from runners.reproduce.runs import Runs
    from runners.reproduce.summary import Summaries, summaries

    runs, failed = Runs(out.absolute(), where), 0
    known = Earlier(earlier or [], experiments, scale, runs)

    def look() -> dict[str, Summaries]:
        return {e.name: summaries(e, e.scales[scale], runs, known) for e in experiments}

    found = look()  # what could not be reported is told before it costs hours
    for name, cells in found.items() if earlier else ():
        print(f"{name}: {sum(cell.earlier for cell in cells.values())} runs count as earlier reports told them")
    _make(out)
    if not report_only:
        jobs = missing(experiments, scale, runs, known, seeds)
        of = "" if seeds is None else " of seed 0" if seeds == 1 else f" of the first {seeds} seeds"
        print(f"{what}, {scale} scale: {len(jobs)} jobs{of} are left to do" if jobs else f"every run{of} is finished")
        try:
            failed = executors.carry_out(jobs, executor, at_once, parameters, out.absolute())
        except typer.Exit as stopped:
            print("the same command goes on from there", file=sys.stderr)
            raise stopped
        found = look()
    for e in experiments:
        print(f"report: {write(e, e.scales[scale], found[e.name], runs, known)}")
    for line in left_out:
        print(f"left out: {line}")
    if failed:
        raise typer.Exit(1)


def _make(out: Path) -> None:
    """Make the folder; raises FewShotError where it can not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FewShotError(f"the folder {out} can not be written ({error.strerror}); choose another --out") from error
