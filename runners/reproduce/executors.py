"""Executors: where jobs are carried out: in this process, as processes on this machine, or as one Slurm array."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError
from runners.reproduce.jobs import Job

EXECUTORS = ("here", "local", "slurm")
POLL_SECONDS = 2.0


def check(executor: str, parameters: dict[str, Any]) -> None:
    """Raise FewShotError for an unknown or absent executor, and for parameters that nobody takes."""
    if executor not in EXECUTORS:
        raise FewShotError(f"--executor is {executor!r}, but must be here, local or slurm")
    if executor == "here":
        if parameters:
            raise FewShotError(f"--cluster {next(iter(parameters))} has no use here; add --executor local or slurm")
        return
    try:
        import submitit
    except ImportError as error:
        raise FewShotError(f"--executor {executor} needs submitit; run: pip install 'fewshot[cluster]'") from error
    if executor == "slurm" and submitit.SlurmExecutor.affinity() < 0:
        raise FewShotError("--executor slurm finds no Slurm on this machine (srun); use --executor local")
    _executor(executor, Path(), parameters)


def carry_out(jobs: Sequence[Job], executor: str, at_once: int | None, parameters: dict[str, Any], out: Path) -> int:
    """Carry out the jobs; returns how many failed, each with a line that says where its log is."""
    if executor == "here":
        for number, job in enumerate(jobs, 1):
            print(f"{number} of {len(jobs)}: {job.name}", flush=True)
            job()
        return 0
    on = _executor(executor, out / "jobs", parameters)
    if executor == "slurm":
        on.update_parameters(slurm_array_parallelism=at_once or len(jobs))
        submitted = on.map_array(_call, jobs)
        print(f"{len(jobs)} jobs are Slurm array {submitted[0].job_id.split('_')[0]}; logs are in {out / 'jobs'}")
        print("leaving (Ctrl-C) does not stop them; the same command later goes on and reports", flush=True)
        return _wait(jobs, submitted)
    failed = 0
    width = at_once or os.cpu_count() or 1
    waiting = list(jobs)
    running: list[tuple[Job, Any]] = []
    while waiting or running:
        while waiting and len(running) < width:
            job = waiting.pop(0)
            running.append((job, on.submit(_call, job)))
            print(f"{len(jobs) - len(waiting)} of {len(jobs)}: {job.name}", flush=True)
        time.sleep(POLL_SECONDS / 4)
        for job, handle in [pair for pair in running if pair[1].done()]:
            running.remove((job, handle))
            failed += _failed(job, handle)
    return failed


def _call(job: Job) -> None:
    job()


def _executor(name: str, folder: Path, parameters: dict[str, Any]) -> Any:
    import submitit

    made = submitit.AutoExecutor(folder=folder, cluster=name)
    usual = {"name": "fewshot", "timeout_min": 60 * 24, "cpus_per_task": 1}
    try:
        made.update_parameters(**(usual | parameters))
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise FewShotError(f"--cluster: {str(error).splitlines()[0]}") from error
    return made


def _wait(jobs: Sequence[Job], handles: Sequence[Any]) -> int:
    done: set[int] = set()
    failed = 0
    while len(done) < len(handles):
        time.sleep(POLL_SECONDS)
        for i, handle in enumerate(handles):
            if i not in done and handle.done():
                done.add(i)
                failed += _failed(jobs[i], handle)
                print(f"{len(done)} of {len(handles)} jobs done: {jobs[i].name}", flush=True)
    return failed


def _failed(job: Job, handle: Any) -> int:
    """1 where the job ended with an error, which is told in a line; else 0."""
    error = handle.exception()
    if error is None:
        return 0
    last = [line for line in str(error).splitlines() if line.strip()]
    print(f"fsl: {job.name} failed ({last[-1].strip() if last else error}); see {handle.paths.stderr}", file=sys.stderr)
    return 1
