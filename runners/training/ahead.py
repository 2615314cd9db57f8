"""The training tasks of coming outer steps, sampled together: one by one, small tasks take as long as the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agents.engine.stack import Stack
from fewshot_env.episode import Episode
from fewshot_env.sampler import TaskSampler
from fewshot_env.shapes import varies
from runners.config.plan import Plan
from runners.distributed.process_group import ProcessGroup
from runners.training.step import sampled_seeds

TASKS, NUMBERS = 512, 2**17
"""At most so many tasks are sampled at once, of so many numbers in all."""


class Ahead:
    """Tasks of several runs' outer steps, in the order in which the steps come.

    Args:
        sampler: of training tasks, all of one shape.
        run_seeds: the runs' seeds.
        batch: tasks of an outer step of each run.
        group: the processes that share them.
        train_tasks: of each run; none are sampled beyond.
    """

    def __init__(
        self, sampler: TaskSampler, run_seeds: list[int], batch: int, group: ProcessGroup, train_tasks: int
    ) -> None:
        self.sampler, self.run_seeds, self.batch, self.group = sampler, run_seeds, batch, group
        self.train_tasks = train_tasks
        self._first, self._tasks = 0, list[Episode]()

    def task(self, before: int) -> Episode:
        """The tasks [runs * B, ...] of the outer step after `before` tasks, ordered by run."""
        place = (before - self._first) // self.batch
        if not (0 <= place < len(self._tasks) and (before - self._first) % self.batch == 0):
            self._fill(before)
            place = 0
        return self._tasks[place]

    def _fill(self, before: int) -> None:
        per_step = len(self.group.share(self.batch)) * len(self.run_seeds)
        spec, sampler = self.sampler.spec, self.sampler
        size = (sampler.support_size + sampler.query_size) * (math.prod(spec.in_shape) + spec.n_outputs)
        steps = max(1, min(TASKS // per_step, NUMBERS // (per_step * size), (self.train_tasks - before) // self.batch))
        starts = [before + step * self.batch for step in range(steps)]
        seeds = [s for start in starts for run in self.run_seeds for s in self._seeds(run, start)]
        whole = sampler.sample(seeds)
        parts = [slice(step * per_step, (step + 1) * per_step) for step in range(steps)]
        self._first, self._tasks = before, [Episode(whole.support[p], whole.query[p]) for p in parts]

    def _seeds(self, run: int, before: int) -> list[int]:
        return sampled_seeds(run, before, self.batch, self.group)


def sample_ahead(plans: Sequence[Plan], stack: Stack, group: ProcessGroup, sampler: TaskSampler) -> Ahead | None:
    """Coming tasks of runs that differ in their seeds; None where a step takes longer than sampling, or is in parts."""
    agent, run = stack.agent, plans[0].run
    batch = agent.config.tasks_per_step
    if not agent.learns_at_once or agent.at_once or varies(sampler) or not group.share(batch):
        return None
    return Ahead(sampler, [plan.run.seed for plan in plans], batch, group, run.train_tasks)
