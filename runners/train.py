"""One run: meta-train, validate every k tasks, keep the best, touch the test once at the end."""

from __future__ import annotations

import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from agents.base import Agent
from fewshot_env.episode import Episode
from fewshot_env.errors import FewShotError
from fewshot_env.rng import task_seeds
from fewshot_env.vector import FewShotVectorEnv
from runners import checkpoint
from runners.evaluate import evaluate, frozen_seeds, summarise
from runners.loggers import Loggers, Meter
from runners.machine import tune
from runners.pictures import picture_of
from runners.plan import Plan
from runners.progress import Report, progress
from runners.result import build, numbers
from runners.run_dir import write_json

SAVE_SECONDS = 300.0  # a killed run loses no more than this, however far apart its validations are


class Interrupted(Exception):
    """The user asked to stop; `code` is the process's exit code. The run can be resumed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Progress:
    """How far a run is: all that its checkpoint holds besides the agent."""

    tasks_seen: int = 0
    validated: int = -1
    """tasks_seen at the last validation; -1 before the first."""
    best_score: float | None = None
    best_tasks: int = 0
    meter: Meter = field(default_factory=Meter)


class Run:
    """A plan carried out in a folder, from the start or from its last checkpoint."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        tune(plan.run.threads)
        self.agent = plan.make_agent()
        self.at = Progress()
        if (folder / "last.pt").exists():
            self._load(folder / "last.pt")
        self.loggers = Loggers(folder, self.at.tasks_seen)
        self.val_env = plan.make_env("val", plan.run.eval_batch)
        self.val_seeds = frozen_seeds("val", plan.run.val_tasks)
        self._saved = time.monotonic()

    def __call__(self) -> dict[str, Any]:
        """Train to the end, test the best weights, write result.json and return it."""
        self.loggers.board.text("config", _table(self.plan.settings))
        with _stop_signals() as stop:
            try:
                self._train(stop)
                self._save("last.pt")
                result = self._test(stop)
            finally:
                self.loggers.close()
        return result

    def _train(self, stop: Callable[[], None]) -> None:
        run, at, agent, note = self.plan.run, self.at, self.agent.train(), ""
        batch = agent.config.tasks_per_step
        env = self.plan.make_env("train", batch)
        with progress("training", run.train_tasks, "tasks", at.tasks_seen) as report:
            clock, counted = time.monotonic(), at.tasks_seen
            while True:
                if self._validation_due():
                    self._validate(stop, report)
                    clock, counted = time.monotonic(), at.tasks_seen
                self._stop_here(stop)
                if at.tasks_seen + batch > run.train_tasks:
                    return
                before, at.tasks_seen = at.tasks_seen, at.tasks_seen + batch
                outer_step(agent, env, task_seeds(run.seed, "train", before, batch), at.meter)
                if at.tasks_seen // run.log_every > before // run.log_every:
                    row, now = at.meter.take(), time.monotonic()
                    row["time/tasks_per_second"] = (at.tasks_seen - counted) / (now - clock)
                    clock, counted = now, at.tasks_seen
                    self.loggers.write(at.tasks_seen, row)
                    note = f"loss {row['train/loss']:.3f}" if "train/loss" in row else ""
                report(at.tasks_seen, note)
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    self._save("last.pt")

    def _validation_due(self) -> bool:
        run, at = self.plan.run, self.at
        at_end = at.tasks_seen + self.agent.config.tasks_per_step > run.train_tasks
        crossed = at.tasks_seen // run.val_every > at.validated // run.val_every
        return self.plan.agent_class.learns and at.validated < at.tasks_seen and (crossed or at_end)

    def _validate(self, stop: Callable[[], None], report: Report) -> None:
        at, spec = self.at, self.plan.spec

        def between(done: int) -> None:
            self._stop_here(stop)
            report(at.tasks_seen, f"validating {done}/{len(self.val_seeds)}")

        scores = evaluate(self.agent, self.val_env, self.val_seeds, between)
        summary = summarise(spec, scores)
        at.validated = at.tasks_seen
        self.loggers.write(at.tasks_seen, numbers(summary, "val"))
        self.loggers.board.picture(
            "val/episode", picture_of(self.agent, self.val_env, self.val_seeds[0]), at.tasks_seen
        )
        for name, values in self.agent.distributions().items():
            self.loggers.board.distribution(name, values, at.tasks_seen)
        score = statistics.fmean(scores)  # NaN where a task's score is: such weights are never the best
        if math.isfinite(score) and (at.best_score is None or score > at.best_score):
            at.best_score, at.best_tasks = score, at.tasks_seen
            self._save("best.pt")
        self._save("last.pt")

    def _stop_here(self, stop: Callable[[], None]) -> None:
        """Save before the stop that was asked for, if one was."""
        try:
            stop()
        except Interrupted:
            self._save("last.pt")
            raise

    def _test(self, stop: Callable[[], None]) -> dict[str, Any]:
        run = self.plan.run
        if (self.folder / "best.pt").exists():
            self._take_up(self.folder / "best.pt")
        else:
            self._save("best.pt")
        env, seeds = self.plan.make_env("test", run.eval_batch), frozen_seeds("test", run.test_tasks)
        with progress("testing", len(seeds), "tasks") as report:

            def between(done: int) -> None:
                stop()
                report(done, "")

            scores = evaluate(self.agent, env, seeds, between)
        result = build(self.plan, env, seeds, scores) | {
            "trained_tasks": self.at.tasks_seen,
            "best_at_tasks": self.at.best_tasks,
        }
        row = numbers(result, "test")
        self.loggers.write(self.at.tasks_seen, row)
        self.loggers.board.picture("test/episode", picture_of(self.agent, env, seeds[0]), self.at.tasks_seen)
        self.loggers.board.hyperparameters(self.plan.settings, row, self.at.tasks_seen)
        write_json(self.folder / "result.json", result)
        return result

    def _save(self, name: str) -> None:
        at = self.at
        content = {
            "tasks_seen": at.tasks_seen,
            "validated": at.validated,
            "best_score": at.best_score,
            "best_tasks": at.best_tasks,
            "meter": at.meter.sums,
            "agent": self.agent.state(),
            "rng": torch.get_rng_state(),
            "settings": self.plan.settings,
        }
        checkpoint.save(self.folder / name, content)
        self._saved = time.monotonic()

    def _load(self, file: Path) -> None:
        content = self._take_up(file)
        self.at = Progress(
            content["tasks_seen"],
            content["validated"],
            content["best_score"],
            content["best_tasks"],
            Meter(content["meter"]),
        )
        torch.set_rng_state(content["rng"].cpu())

    def _take_up(self, file: Path) -> dict[str, Any]:
        """Load the agent's state from a checkpoint; raises FewShotError where it is another agent's."""
        content = checkpoint.load(file, self.plan.device)
        try:
            self.agent.load_state(content["agent"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FewShotError(f"the checkpoint {file} belongs to another agent or environment; start anew") from error
        return content


def outer_step(agent: Agent, env: FewShotVectorEnv, seeds: list[int], meter: Meter) -> None:
    """Deal tasks, adapt, predict, have them marked, learn: the Gymnasium loop."""
    obs, _ = env.reset(options={"task_seed": seeds})
    episode = Episode.from_obs(obs)
    adapted = agent.adapt(episode.support)
    predictions = agent.predict(adapted, episode.query.x)
    *_, info = env.step(predictions)
    meter.add("train", agent.meta_update(predictions, info["query_y"]))
    meter.add("inner", agent.inspect(adapted))


@contextmanager
def _stop_signals() -> Iterator[Callable[[], None]]:
    """Turn SIGINT and SIGTERM into Interrupted at the next safe point, which is a call of what is yielded."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    def stop() -> None:
        if asked:
            raise Interrupted(128 + asked[0])

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _table(settings: dict[str, Any]) -> str:
    rows = "\n".join(f"| {key} | `{value}` |" for key, value in settings.items())
    return f"| setting | value |\n|---|---|\n{rows}"
