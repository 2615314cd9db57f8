"""The command `fsl reproduce`. Nothing heavy is imported before the command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot_env.errors import FewShotError, suggest
from runners.cli.options import DataDir


def reproduce(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="fig3, fig4, table1, table2, fig5, or all.")],
    scale: Annotated[
        str, typer.Option(help="full: the paper's runs and tasks. quick: far fewer, to check that everything works.")
    ] = "quick",
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Run only the first N seeds of each cell; the report counts all runs."),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="JSON", help="Also count the runs that an earlier report lists; may be repeated."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the reports.")] = Path("reproduced"),
    executor: Annotated[
        str, typer.Option(help="here: one after the other. local: processes on this machine. slurm: one array.")
    ] = "here",
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Jobs at once; default: local as many as cores, slurm all.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A parameter of submitit: timeout_min=600, slurm_partition=gpu, ..."),
    ] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing; report the finished runs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Run what a figure or table of the paper still lacks, and report it with the paper's values."""
    from runners.config.settings import read_pairs
    from runners.reproduce.registry import experiments_named

    experiments = experiments_named(what)
    if scale not in ("quick", "full"):
        hint = suggest(scale, ("quick", "full"))
        raise FewShotError(f"--scale is {scale!r}, but must be quick or full{hint}")
    from runners.distributed.stop import RunEnded
    from runners.reproduce.machinery.collect import collect
    from runners.reproduce.machinery.earlier import EarlierReports
    from runners.reproduce.machinery.executors import check_executor, run_jobs
    from runners.reproduce.machinery.experiment import with_data
    from runners.reproduce.machinery.jobs import missing_jobs
    from runners.reproduce.machinery.report import write
    from runners.reproduce.machinery.runs import Runs
    from runners.reproduce.machinery.summary import Summaries

    parameters = read_pairs(cluster or [], "--cluster", "timeout_min=600")
    check_executor(executor, parameters, at_once)
    data = None if data_dir is None else str(data_dir.absolute())
    experiments, left_out = with_data(experiments, data)
    runs, failed = Runs(out.absolute(), data), 0
    reports = EarlierReports(earlier or [], experiments, scale, runs)

    def summarize() -> dict[str, Summaries]:
        return {e.name: collect(e, e.scales[scale], runs, reports) for e in experiments}

    summaries = summarize()  # so that what cannot be reported is an error before hours are spent
    for name, cells in summaries.items() if earlier else ():
        print(f"{name}: {sum(cell.earlier for cell in cells.values())} runs are taken from earlier reports")
    _make_writable(out)
    if not report_only:
        jobs = missing_jobs(experiments, scale, runs, reports, seeds)
        of = "" if seeds is None else " of seed 0" if seeds == 1 else f" of the first {seeds} seeds"
        print(f"{what}, {scale} scale: {len(jobs)} jobs{of} to run" if jobs else f"every run{of} is finished")
        try:
            failed = run_jobs(jobs, executor, at_once, parameters, out.absolute())
        except RunEnded:
            print("run the same command again to continue", file=sys.stderr)
            raise
        summaries = summarize()
    for e in experiments:
        print(f"report: {write(e, e.scales[scale], summaries[e.name], runs, reports)}")
    for line in left_out:
        print(f"left out: {line}")
    if failed:
        raise typer.Exit(1)


def _make_writable(out: Path) -> None:
    """Make the folder; raises FewShotError where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FewShotError(f"the folder {out} cannot be written ({error.strerror}); choose another --out") from error
