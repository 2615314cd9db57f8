"""Training: meta-train one run, or several seeds side by side; validate, keep the best weights, test once at the end.

`begin` gives a `Training`, the runs with what they share; `run_to_the_end` carries it out with the functions below it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from agents.engine.heap import give_back_memory
from agents.engine.stack import Stack
from agents.networks.weights import weights_follow
from agents.saved import describe
from fewshot_env.errors import FewShotError
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import device_name, tune
from runners.config.plan import Plan
from runners.console.output import log
from runners.console.progress import ReportProgress, progress
from runners.distributed.process_group import SINGLE_PROCESS, ProcessGroup, ProcessLost
from runners.distributed.stop import Interrupted, stop_signals
from runners.evaluation import non_finite
from runners.evaluation.evaluate import evaluate, frozen_seeds, summarise
from runners.evaluation.result import build, numbers
from runners.loggers.all_loggers import Loggers, closing_all
from runners.loggers.base import Row
from runners.loggers.show import show_test, show_validation
from runners.storage import checkpoint
from runners.storage.run_folder import write_json
from runners.training.ahead import Ahead
from runners.training.run_state import RunState
from runners.training.step import outer_step
from runners.training.stopwatch import Stopwatch

SAVE_SECONDS = 300.0  # a killed run loses no more than this, however far apart its validations are

Stop = Callable[[], None]
"""Raises Interrupted where the user asked to stop."""


@dataclass
class Training:
    """Runs that differ only in their seeds and stand at the same number of tasks, each in its own folder."""

    plan: Plan
    group: ProcessGroup
    stack: Stack
    runs: list[RunState]
    train_env: FewShotVectorEnv
    val_env: FewShotVectorEnv | None
    """None where there is no validation."""
    val_seeds: list[int]
    watch: Stopwatch
    ahead: Ahead
    """Coming tasks."""
    saved: float = field(default_factory=time.monotonic)
    """When the last checkpoint was written."""

    @property
    def tasks_seen(self) -> int:
        """How far all runs are."""
        return self.runs[0].progress.tasks_seen

    @property
    def written(self) -> list[tuple[RunState, Loggers]]:
        """The runs that this process writes to, all or none, with their loggers."""
        return [(run, run.loggers) for run in self.runs if run.loggers is not None]


def begin(plans: Sequence[Plan], folders: Sequence[Path], group: ProcessGroup = SINGLE_PROCESS) -> Training:
    """Agents, environments and progress, loaded from the last checkpoints where there are some.

    Args:
        plans: runs that differ only in their seeds; several are trained side by side (agents.engine.stack).
        folders: theirs.
        group: processes, each of which takes its share of every meta-batch.

    Raises:
        FewShotError: where a checkpoint does not fit.
    """
    plan = plans[0]
    tune(plan.run.threads)
    runs = [RunState(plan, folder, group) for plan, folder in zip(plans, folders, strict=True)]
    saved = [run.checkpoint for run in runs if run.checkpoint is not None]
    with weights_follow() if saved else nullcontext():
        stack = Stack([plan.make_agent() for plan in plans])
    if saved:
        _load(stack.load_states, saved, folders[0] / "last.pt")
    val_env = plan.make_env("val", plan.run.eval_batch * len(plans)) if plan.run.val_tasks else None
    val_seeds = frozen_seeds("val", plan.run.val_tasks)
    watch, train_env = Stopwatch(runs[0].progress.seconds), plan.make_env("train", 1)
    for run in runs:
        run.train_on(train_env.sampler.fingerprint)
    run_seeds = [plan.run.seed for plan in plans]
    ahead = Ahead(stack.agent, train_env.sampler, run_seeds, group, plan.run.train_tasks)
    return Training(plan, group, stack, runs, train_env, val_env, val_seeds, watch, ahead)


def run_to_the_end(t: Training) -> list[dict[str, Any]]:
    """Train, test the best weights, write result.json of every run and return them.

    Raises:
        Interrupted: where the user asked to stop; the checkpoints are written.
        ProcessLost: where another process of the group is gone.
        FewShotError: where a step is not finite and `on_nan` is stop.
    """
    for run in t.runs:
        run.open_logs()
    for _, loggers in t.written:
        loggers.layout(t.plan.spec, list(t.stack.agent.distributions()))
    with stop_signals(t.group) as stop, closing_all([loggers for _, loggers in t.written]):
        try:
            train(t, stop)
        except ProcessLost:
            save_last(t)  # a step that was not shared by all has changed nothing
            raise
        save_last(t)
        return test(t, stop)


def train(t: Training, stop: Stop) -> None:
    """Outer steps until `train_tasks`, with validations, rows of the log and checkpoints when they are due."""
    run, batch, note = t.plan.run, t.stack.agent.config.tasks_per_step, ""
    t.stack.agent.train()
    t.watch.switch("train")
    with progress("training", run.train_tasks, "tasks", t.tasks_seen, t.group.is_main) as report:
        clock, counted = time.monotonic(), t.tasks_seen
        while True:
            if _validation_due(t):
                validate(t, stop, report)
                clock, counted = time.monotonic(), t.tasks_seen
            _stop_here(t, stop)
            before = t.tasks_seen
            if before + batch > run.train_tasks:
                return
            _take_step(t, batch)
            if t.tasks_seen // run.log_every > before // run.log_every:
                now = time.monotonic()
                row = _log_means(t, {"time/tasks_per_second": (t.tasks_seen - counted) / (now - clock)})
                clock, counted = now, t.tasks_seen
                note = f"loss {row['train/loss']:.3f}" if "train/loss" in row else ""
            report(t.tasks_seen, note)
            if time.monotonic() - t.saved > SAVE_SECONDS:
                save_last(t)


def _take_step(t: Training, batch: int) -> None:
    """One outer step of every run, on this process's share of the tasks."""
    before = t.tasks_seen
    seeds, task = t.ahead.coming(before)
    inner, rows = outer_step(t.stack, t.train_env, seeds, t.group, task)
    for r, run in enumerate(t.runs):
        for tasks, of_runs in inner:
            run.means.add("inner", of_runs[r], tasks)
        run.means.add("train", rows[r])
        if not non_finite.is_finite(rows[r]):
            _skip(t, r, t.ahead.seeds(before)[r])
    for run in t.runs:
        run.progress.tasks_seen = before + batch


def _skip(t: Training, r: int, seeds: list[int]) -> None:
    """A step was not finite: name its tasks, save them, and go on or stop, as `on_nan` says."""
    state = t.runs[r]
    run, at = state.plan.run, state.progress
    at.skipped += 1
    if at.skipped > non_finite.MAX_SAVED and run.on_nan == "skip":
        log.debug(f"seed {run.seed}: the step after {at.tasks_seen} tasks is not finite either, and was skipped")
        return
    agent, sampler = t.stack.member(r), t.train_env.sampler
    agent.train()
    tasks = [one for part in t.group.gather(non_finite.examine(agent, sampler, seeds)) for one in part]
    words = non_finite.skipped_step(state.place, agent, sampler, tasks) if t.group.is_main else ""
    if run.on_nan == "stop":
        raise FewShotError(words)
    if t.group.is_main:
        log.warning(f"fsl: {words}; the step was skipped")


def _log_means(t: Training, more: dict[str, float]) -> Row:
    """Write the means since the last time, and `more`, for every run; returns the first run's."""
    rows = [run.means.take(t.group) | more for run in t.runs]
    for run, row in zip(t.runs, rows, strict=True):
        run.log(row)
    return rows[0]


def _validation_due(t: Training) -> bool:
    run, at = t.plan.run, t.runs[0].progress
    at_end = at.tasks_seen + t.stack.agent.config.tasks_per_step > run.train_tasks
    crossed = at.tasks_seen // run.val_every > at.validated // run.val_every
    return t.val_env is not None and t.stack.agent.learns and at.validated < at.tasks_seen and (crossed or at_end)


def validate(t: Training, stop: Stop, report: ReportProgress) -> None:
    """Score the frozen validation tasks; log and show them; keep the weights where they are the best so far."""

    def between(done: int) -> None:
        _stop_here(t, stop)
        report(t.tasks_seen, f"validating {done}/{len(t.val_seeds)}")

    assert t.val_env is not None, "there is a validation"
    before = t.watch.switch("validation")
    give_back_memory()
    scores = evaluate(t.stack.agent, t.val_env, t.val_seeds, between, t.group)
    t.watch.switch(before)
    for r, (run, of_run) in enumerate(zip(t.runs, scores, strict=True)):
        summary = summarise(t.plan.spec, of_run)
        better = _note_validation(run, of_run, summary)
        if run.loggers is not None:
            run.log(numbers(summary, "val"))
            member, sampler = t.stack.member(r), t.val_env.sampler
            non_finite.save_diverged(run.place, member, sampler, "val", t.val_seeds, of_run)
            show_validation(run.loggers, member, t.val_env, t.val_seeds, t.tasks_seen)
            if better:
                run.save("best.pt", t.stack.state(r), describe(t.stack.agent))
    save_last(t)
    give_back_memory()


def _note_validation(run: RunState, scores: list[float], summary: dict[str, Any]) -> bool:
    """Take note of a validation; whether its weights are the best so far.

    Untrained weights, after 0 tasks, count as better than trained ones only by more than their own interval.
    """
    at, score = run.progress, statistics.fmean(scores)  # NaN where a task's score is: such weights are never the best
    at.validated = at.tasks_seen
    if at.tasks_seen == 0:
        at.untrained = summary["mean"]
    margin = (at.untrained_ci95 or 0.0) if at.best_tasks == 0 else 0.0
    better = math.isfinite(score) and (at.best_score is None or score > at.best_score - margin)
    if better:
        at.best_score, at.best_tasks = score, at.tasks_seen
        at.untrained_ci95 = summary["ci95"] if at.tasks_seen == 0 else None
    return better


def test(t: Training, stop: Stop) -> list[dict[str, Any]]:  # no pytest function
    """Score the frozen test tasks with the best weights (the last, without a finite validation), once."""
    run, folders = t.plan.run, [state.folder for state in t.runs]
    t.watch.switch("test")
    give_back_memory()
    for r, state in enumerate(t.runs):
        if state.progress.best_score is None:
            state.progress.best_tasks = state.progress.tasks_seen
            if state.loggers is not None:
                state.save("best.pt", t.stack.state(r), describe(t.stack.agent))
    t.group.gather(None)  # so that the checkpoints are there
    best = [checkpoint.load(folder / "best.pt", t.plan.device) for folder in folders]
    _load(t.stack.load_weights, best, folders[0] / "best.pt")
    env, seeds = t.plan.make_env("test", run.eval_batch * len(folders)), frozen_seeds("test", run.test_tasks)
    with progress("testing", len(seeds), "tasks", show=t.group.is_main) as report:

        def between(done: int) -> None:
            stop()
            report(done, "")

        scores = evaluate(t.stack.agent, env, seeds, between, t.group)
    t.watch.switch(None)
    give_back_memory()
    return [_write_result(t, r, env, seeds, of_run) for r, of_run in enumerate(scores)]


def _write_result(t: Training, r: int, env: FewShotVectorEnv, seeds: list[int], scores: list[float]) -> dict[str, Any]:
    """One run's result, logged, shown and written."""
    state, at = t.runs[r], t.runs[r].progress
    result = build(state.plan, env, seeds, scores) | {
        "trained_tasks": at.tasks_seen,
        "best_at_tasks": at.best_tasks,
        "skipped_steps": at.skipped,
        "untrained": at.untrained,
        "seconds": t.watch.read(),
        "side_by_side": len(t.runs),
        "preset": t.plan.preset,
        "device": device_name(t.plan.device),
    }
    if state.loggers is not None:
        row, member = numbers(result, "test"), t.stack.member(r)
        state.log(row)
        non_finite.save_diverged(state.place, member, env.sampler, "test", seeds, scores)
        show_test(state.loggers, member, env, seeds, at.tasks_seen)
        state.loggers.hparams(row, at.tasks_seen)
        write_json(state.folder / "result.json", result)
    return result


def save_last(t: Training) -> None:
    """Write every run's last.pt, from which it can be resumed exactly."""
    seconds = t.watch.read()
    for r, (run, _) in enumerate(t.written):
        run.progress.seconds = seconds
        run.save("last.pt", t.stack.state(r), describe(t.stack.agent))
    t.saved = time.monotonic()


def _stop_here(t: Training, stop: Stop) -> None:
    """Save before the stop that was asked for, if one was."""
    try:
        stop()
    except Interrupted:
        save_last(t)
        raise


def _load(load: Callable[[list[Any]], None], contents: list[dict[str, Any]], file: Path) -> None:
    """Load the runs' agents from checkpoints; raises FewShotError where they are another agent's."""
    try:
        load([content["agent"] for content in contents])
        torch.set_rng_state(contents[0]["rng"].cpu())
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise FewShotError(f"the checkpoint {file} belongs to another agent or environment; start anew") from error
