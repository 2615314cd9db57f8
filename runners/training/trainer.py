"""One run: meta-train, validate every k tasks, keep the best, touch the test once at the end."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from agents.base import Agent
from agents.engine.stack import Stack
from fewshot_env.errors import FewShotError
from runners.config.machine import device_name, tune
from runners.config.plan import Plan
from runners.console.output import log
from runners.console.progress import Report, progress
from runners.distributed.process_group import ALONE, MemberLost, Team
from runners.distributed.stop import Interrupted, stop_signals
from runners.evaluation import non_finite as faults
from runners.evaluation.evaluate import evaluate, frozen_seeds, summarise
from runners.evaluation.result import build, numbers
from runners.loggers.base import Loggers, closed_in_the_end
from runners.loggers.show import show_test, show_validation
from runners.storage import checkpoint
from runners.storage.run_folder import write_json
from runners.training.run_state import Track
from runners.training.step import dealt_seeds, outer_step
from runners.training.stopwatch import Stopwatch

SAVE_SECONDS = 300.0  # a killed run loses no more than this, however far apart its validations are


class Run:
    """A plan carried out in a folder, from the start or from its last checkpoint.

    Several plans that differ in their seeds alone, and stand at the same number of tasks, are trained side by side,
    each in its own folder (agents.engine.stack). With a team of processes, each takes its share of every meta-batch.
    """

    def __init__(self, plans: Sequence[Plan], folders: Sequence[Path], team: Team = ALONE) -> None:
        self.plan, self.team = plans[0], team
        tune(self.plan.run.threads)
        self.stack = Stack([plan.make_agent() for plan in plans])
        self.stack.agent.reduce = team.sum
        self.tracks = [Track(plan, folder, team) for plan, folder in zip(plans, folders, strict=True)]
        found = [track.content for track in self.tracks if track.content is not None]
        if found:
            self._take_up(self.stack.load_states, found, folders[0] / "last.pt")
        self.at = self.tracks[0].at  # how far all are
        self.train_env = self.plan.make_env("train", 1)
        self.val_env = self.plan.make_env("val", self.plan.run.eval_batch * len(plans))
        self.val_seeds = frozen_seeds("val", self.plan.run.val_tasks)
        self._saved = time.monotonic()
        self.watch = Stopwatch(self.at.seconds)

    def __call__(self) -> list[dict[str, Any]]:
        """Train to the end, test the best weights, write result.json of every run and return them."""
        for track in self.tracks:
            track.open_logs()
        for r, (_, loggers) in enumerate(self._written()):
            for board in loggers.boards:
                board.layout(self.plan.spec, list(self.stack.members[r].distributions()))
        with stop_signals(self.team) as stop, closed_in_the_end([loggers for _, loggers in self._written()]):
            try:
                self._train(stop)
            except MemberLost:
                self._save_last()  # a step that was not shared by all has changed nothing
                raise
            self._save_last()
            return self._test(stop)

    def _train(self, stop: Callable[[], None]) -> None:
        run, at, note = self.plan.run, self.at, ""
        self.stack.train()
        self.watch.switch("train")
        batch = self.stack.agent.config.tasks_per_step
        with progress("training", run.train_tasks, "tasks", at.tasks_seen, self.team.leads) as report:
            clock, counted = time.monotonic(), at.tasks_seen
            while True:
                if self._validation_due():
                    self._validate(stop, report)
                    clock, counted = time.monotonic(), at.tasks_seen
                self._stop_here(stop)
                if at.tasks_seen + batch > run.train_tasks:
                    return
                before = at.tasks_seen
                self._outer_step(before, batch)
                for track in self.tracks:
                    track.at.tasks_seen = before + batch
                if at.tasks_seen // run.log_every > before // run.log_every:
                    now = time.monotonic()
                    row = self._log({"time/tasks_per_second": (at.tasks_seen - counted) / (now - clock)})
                    clock, counted = now, at.tasks_seen
                    note = f"loss {row['train/loss']:.3f}" if "train/loss" in row else ""
                report(at.tasks_seen, note)
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    self._save_last()

    def _outer_step(self, before: int, batch: int) -> None:
        """One outer step of every run, on this process's share of the tasks."""
        seeds = [dealt_seeds(track.plan.run.seed, before, batch, self.team) for track in self.tracks]
        inner, rows = outer_step(self.stack, self.train_env, seeds)
        for r, track in enumerate(self.tracks):
            for tasks, of_runs in inner:
                track.meter.add("inner", of_runs[r], tasks)
            track.meter.add("train", rows[r])
            if not faults.is_sound(rows[r]):
                self._skipped(track, self.stack.members[r], seeds[r])

    def _skipped(self, track: Track, agent: Agent, seeds: list[int]) -> None:
        """A step was not finite: name its tasks, save them, and go on or stop, as `on_nan` says."""
        run, at = track.plan.run, track.at
        at.skipped += 1
        if at.skipped > faults.MOST_SAVED and run.on_nan == "skip":
            log.debug(f"seed {run.seed}: the step after {at.tasks_seen} tasks is not finite either, and was skipped")
            return
        sampler = self.train_env.sampler
        found = [one for part in self.team.gather(faults.examine(agent, sampler, seeds)) for one in part]
        words = faults.skipped_step(track, agent, sampler, found) if self.team.leads else ""
        if run.on_nan == "stop":
            raise FewShotError(words)
        if self.team.leads:
            log.warning(f"fsl: {words}; the step was skipped")

    def _log(self, more: dict[str, float]) -> dict[str, float]:
        """Write the means since the last time, and `more`, for every run; returns the first run's."""
        rows = [track.meter.take(self.team) | more for track in self.tracks]
        for track, row in zip(self.tracks, rows, strict=True):
            track.log(row)
        return rows[0]

    def _validation_due(self) -> bool:
        run, at = self.plan.run, self.at
        at_end = at.tasks_seen + self.stack.agent.config.tasks_per_step > run.train_tasks
        crossed = at.tasks_seen // run.val_every > at.validated // run.val_every
        return self.plan.agent_class.learns and at.validated < at.tasks_seen and (crossed or at_end)

    def _validate(self, stop: Callable[[], None], report: Report) -> None:
        def between(done: int) -> None:
            self._stop_here(stop)
            report(self.at.tasks_seen, f"validating {done}/{len(self.val_seeds)}")

        before = self.watch.switch("validation")
        found = evaluate(self.stack.agent, self.val_env, self.val_seeds, between, self.team)
        self.watch.switch(before)
        for r, (track, scores) in enumerate(zip(self.tracks, found, strict=True)):
            at, member = track.at, self.stack.members[r]
            at.validated = at.tasks_seen
            score = statistics.fmean(scores)  # NaN where a task's score is: such weights are never the best
            better = math.isfinite(score) and (at.best_score is None or score > at.best_score)
            if better:
                at.best_score, at.best_tasks = score, at.tasks_seen
            if track.loggers is not None:
                track.log(numbers(summarise(self.plan.spec, scores), "val"))
                here, sampler = faults.Place.of(track), self.val_env.sampler
                faults.save_diverged(here, member, sampler, "val", self.val_seeds, scores)
                show_validation(track.loggers, member, self.val_env, self.val_seeds, at.tasks_seen)
                if better:
                    track.save("best.pt", self.stack.state(r))
        self._save_last()

    def _stop_here(self, stop: Callable[[], None]) -> None:
        """Save before the stop that was asked for, if one was."""
        try:
            stop()
        except Interrupted:
            self._save_last()
            raise

    def _test(self, stop: Callable[[], None]) -> list[dict[str, Any]]:
        run, folders = self.plan.run, [track.folder for track in self.tracks]
        self.watch.switch("test")
        for r, track in enumerate(self.tracks):
            if track.at.best_score is None:  # no validation was finite: the last weights are tested
                track.at.best_tasks = track.at.tasks_seen
                if track.loggers is not None:
                    track.save("best.pt", self.stack.state(r))
        self.team.gather(None)  # so that the checkpoints are there
        best = [checkpoint.load(folder / "best.pt", self.plan.device) for folder in folders]
        self._take_up(self.stack.load_weights, best, folders[0] / "best.pt")
        env, seeds = self.plan.make_env("test", run.eval_batch * len(folders)), frozen_seeds("test", run.test_tasks)
        with progress("testing", len(seeds), "tasks", show=self.team.leads) as report:

            def between(done: int) -> None:
                stop()
                report(done, "")

            found = evaluate(self.stack.agent, env, seeds, between, self.team)
        self.watch.switch(None)
        timed = {
            "seconds": self.watch.read(),
            "side_by_side": len(self.tracks),
            "device": device_name(self.plan.device),
        }
        results = []
        for r, (track, scores) in enumerate(zip(self.tracks, found, strict=True)):
            at, member = track.at, self.stack.members[r]
            trained = {"trained_tasks": at.tasks_seen, "best_at_tasks": at.best_tasks, "skipped_steps": at.skipped}
            result = build(track.plan, env, seeds, scores) | trained | timed
            results.append(result)
            if track.loggers is not None:
                row = numbers(result, "test")
                track.log(row)
                faults.save_diverged(faults.Place.of(track), member, env.sampler, "test", seeds, scores)
                show_test(track.loggers, member, env, seeds, track.at.tasks_seen)
                for board in track.loggers.boards:
                    board.results(row, track.at.tasks_seen)
                write_json(track.folder / "result.json", result)
        return results

    def _written(self) -> list[tuple[Track, Loggers]]:
        """The tracks that this process writes to, all or none, with their loggers."""
        return [(track, track.loggers) for track in self.tracks if track.loggers is not None]

    def _save_last(self) -> None:
        seconds = self.watch.read()
        for r, (track, _) in enumerate(self._written()):
            track.at.seconds = seconds
            track.save("last.pt", self.stack.state(r))
        self._saved = time.monotonic()

    def _take_up(self, load: Callable[[list[Any]], None], contents: list[dict[str, Any]], file: Path) -> None:
        """Load the runs' agents from checkpoints; raises FewShotError where they are another agent's."""
        try:
            load([content["agent"] for content in contents])
            torch.set_rng_state(contents[0]["rng"].cpu())
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise FewShotError(f"the checkpoint {file} belongs to another agent or environment; start anew") from error


def check_shares(plan: Plan, processes: int) -> None:
    """Raise FewShotError where one of so many processes would have no tasks of a meta-batch."""
    tasks = plan.agent_config.tasks_per_step
    if processes > tasks:
        what = "a minibatch can not be split" if plan.agent_config.minibatch else f"a meta-batch has {tasks} tasks"
        raise FewShotError(f"{processes} processes are too many: {what}; use fewer, or raise --meta-batch")
