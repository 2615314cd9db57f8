"""Executors: where jobs run: in this process, as processes on this machine, or as one Slurm array."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from fewshot_env.errors import FewShotError, command, suggest
from runners.distributed.process_group import ProcessGroup
from runners.distributed.stop import Interrupted, RunEnded, stop_signals
from runners.reproduce.machinery.jobs import Job

EXECUTORS = ("here", "local", "slurm")
POLL_SECONDS = 2.0
MAX_REQUEUED = 100
"""How often a job that reaches the cluster's time limit is queued again; it continues from its checkpoint each time."""


def check_executor(executor: str, parameters: dict[str, Any], at_once: int | None) -> None:
    """Raise FewShotError for an unknown or unavailable executor, and for parameters that it does not take."""
    if executor not in EXECUTORS:
        hint = suggest(executor, EXECUTORS)
        raise FewShotError(f"--executor is {executor!r}, but must be here, local or slurm{hint}")
    if executor == "here":
        option = f"--cluster {next(iter(parameters))}" if parameters else f"--at-once {at_once}"
        if parameters or at_once is not None:
            raise FewShotError(f"{option} has no effect with --executor here; add --executor local or slurm")
        return
    try:
        import submitit
    except ImportError as error:
        install = command("pip", "install", "fewshot[cluster]")
        raise FewShotError(f"--executor {executor} needs submitit; run: {install}") from error
    if executor == "slurm" and submitit.SlurmExecutor.affinity() < 0:
        raise FewShotError("--executor slurm finds no Slurm on this machine (srun); use --executor local")
    _executor(executor, Path(), parameters)


def run_jobs(jobs: Sequence[Job], executor: str, at_once: int | None, parameters: dict[str, Any], out: Path) -> int:
    """Run the jobs; returns how many failed, each with a line that says where its log is.

    Raises RunEnded where this process was asked to stop.
    """
    failed = 0
    if not jobs:
        return 0
    if executor == "here":
        for number, job in enumerate(jobs, 1):
            print(f"{number} of {len(jobs)}: {job.name}", flush=True)
            try:
                job()
            except FewShotError as error:
                print(f"fsl: {job.name} failed: {error}", file=sys.stderr, flush=True)
                failed += 1
        return failed
    on = _executor(executor, out / "jobs", parameters)
    if executor == "slurm":
        if at_once is not None or "slurm_array_parallelism" not in parameters:
            on.update_parameters(slurm_array_parallelism=at_once or len(jobs))
        submitted = on.map_array(_call, jobs)
        print(f"{len(jobs)} jobs are Slurm array {submitted[0].job_id.split('_')[0]}; logs are in {out / 'jobs'}")
        print("Ctrl-C does not stop them; run the same command again to continue and report", flush=True)
        return _wait(jobs, submitted)
    return _as_processes(jobs, on, at_once or os.cpu_count() or 1)


def _as_processes(jobs: Sequence[Job], on: Any, width: int) -> int:
    """Run the jobs on this machine, `width` at once; returns how many failed.

    When asked to stop, asks the running jobs to save, waits for them, and raises Interrupted.
    """
    failed, waiting = 0, list(jobs)
    running: list[tuple[Job, Any]] = []
    with stop_signals(ProcessGroup()) as stop:
        try:
            while waiting or running:
                stop()
                while waiting and len(running) < width:
                    job = waiting.pop(0)
                    running.append((job, _submit(on, job)))
                    print(f"{len(jobs) - len(waiting)} of {len(jobs)}: {job.name}", flush=True)
                time.sleep(POLL_SECONDS / 4)
                for job, handle in [pair for pair in running if pair[1].done()]:
                    running.remove((job, handle))
                    failed += _failed(job, handle)
        except Interrupted:
            print(f"interrupted; waiting for {len(running)} jobs to save", file=sys.stderr, flush=True)
            while active := [handle for _, handle in running if not handle.done()]:
                for handle in active:  # repeatedly: a job that is still starting ignores the signal
                    _ask_to_stop(handle)
                time.sleep(POLL_SECONDS / 4)
            raise
    return failed


def _submit(on: Any, job: Job) -> Any:
    """Start a job so that Ctrl-C reaches us and the job, but not submitit's process that watches over it."""
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a new process inherits what is ignored here
    try:
        return on.submit(_call, job)
    finally:
        signal.signal(signal.SIGINT, ours)


def _ask_to_stop(handle: Any) -> None:
    """Send SIGTERM to submitit's process of a job, which passes it on; submitit's job id is its process id."""
    with suppress(ProcessLookupError):
        os.kill(int(handle.job_id), signal.SIGTERM)


def _call(job: Job) -> str | None:
    """Run a job in a separate process; returns why it failed, or None."""
    try:
        job()
    except FewShotError as error:
        return str(error)
    except Interrupted as stop:  # exit without a result, so that a requeued job does not count as failed
        sys.exit(stop.code)
    except RunEnded as ended:
        return f"it ended with exit code {ended.code}"
    return None


def _executor(name: str, folder: Path, parameters: dict[str, Any]) -> Any:
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster=name, slurm_max_num_timeout=MAX_REQUEUED)
    defaults: dict[str, Any] = {"name": "fewshot", "timeout_min": 60 * 24, "cpus_per_task": 1}
    if name == "local":  # no other users wait for this machine; and without gpus_per_node, jobs see no GPU
        defaults |= {"timeout_min": 60 * 24 * 365, "gpus_per_node": torch.cuda.device_count()}
    try:
        executor.update_parameters(**(defaults | parameters))
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise FewShotError(f"--cluster: {str(error).splitlines()[0]}") from error
    return executor


def _wait(jobs: Sequence[Job], handles: Sequence[Any]) -> int:
    """Wait for the elements of an array; returns how many failed."""
    failed, left = 0, set(range(len(handles)))
    while left:
        time.sleep(POLL_SECONDS)
        queued = _queued(handles[0].job_id.split("_")[0])
        if queued is None:
            continue
        for i in [i for i in left if handles[i].paths.result_pickle.exists() or handles[i].job_id not in queued]:
            left.remove(i)
            failed += _failed(jobs[i], handles[i])
            print(f"{len(handles) - len(left)} of {len(handles)} jobs done: {jobs[i].name}", flush=True)
    return failed


def _queued(array: str) -> set[str] | None:
    """The elements of an array that wait or run, from squeue (submitit uses sacct, which some clusters lack).

    None where Slurm does not answer, which says nothing about the jobs. An array that Slurm no longer knows has ended.
    """
    asked = subprocess.run(["squeue", "-hrj", array, "-o", "%i"], capture_output=True, text=True, check=False)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    return set(asked.stdout.split())


def _failed(job: Job, handle: Any) -> int:
    """1 where the job ended without a result or with an error, which is printed in a line; else 0."""
    reason = "it ended without a result: killed, cancelled or out of time"
    if handle.paths.result_pickle.exists():
        reason = handle.result() if handle.exception() is None else "an unexpected error"
        if reason is None:
            return 0
    print(f"fsl: {job.name} failed ({reason}); see {handle.paths.stderr}", file=sys.stderr)
    return 1
