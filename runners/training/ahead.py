"""The training tasks of coming outer steps, sampled together: one by one, small tasks take as long as the step."""

from __future__ import annotations

import math

from agents.base import Agent
from fewshot_env.episode import Episode
from fewshot_env.sampler import TaskSampler
from fewshot_env.shapes import varies
from runners.distributed.process_group import ProcessGroup
from runners.training.step import sampled_seeds

TASKS, NUMBERS = 512, 2**17
"""At most so many tasks are sampled at once, of so many numbers in all."""


class Ahead:
    """Tasks of several runs' outer steps, for an agent that learns from all tasks of a step at once.

    Args:
        agent: of all runs.
        sampler: of training tasks.
        run_seeds: the runs' seeds.
        group: the processes that share the tasks of a step.
        train_tasks: of each run; none are sampled beyond.
    """

    def __init__(
        self, agent: Agent, sampler: TaskSampler, run_seeds: list[int], group: ProcessGroup, train_tasks: int
    ) -> None:
        self.agent, self.sampler, self.run_seeds, self.group = agent, sampler, run_seeds, group
        self.batch, self.train_tasks = agent.config.tasks_per_step, train_tasks
        # where ways are drawn, answers are restricted to them, which a step at once does not do
        self._fits = agent.at_once is None and not varies(sampler) and len(group.share(self.batch)) > 0
        self._first, self._tasks = 0, list[Episode]()

    def seeds(self, before: int) -> list[list[int]]:
        """Of each run, the task seeds of the outer step after `before` tasks."""
        return [sampled_seeds(run, before, self.batch, self.group) for run in self.run_seeds]

    def coming(self, before: int) -> tuple[list[list[int]], Episode | None]:
        """What `outer_step` takes for the step after `before` tasks: no seeds and its tasks, or seeds and None."""
        task = self.task(before)
        return ([] if task else self.seeds(before)), task

    def task(self, before: int) -> Episode | None:
        """The tasks [runs * B, ...] of the outer step after `before` tasks, ordered by run.

        None where the agent does not learn from all of them at once now, or shapes are drawn.
        """
        if not (self._fits and self.agent.learns_at_once):
            return None
        place, beside = divmod(before - self._first, self.batch)
        if beside or not 0 <= place < len(self._tasks):
            self._fill(before)
            place = 0
        return self._tasks[place]

    def _fill(self, before: int) -> None:
        per_step = len(self.group.share(self.batch)) * len(self.run_seeds)
        spec, sampler = self.sampler.spec, self.sampler
        size = (sampler.support_size + sampler.query_size) * (math.prod(spec.in_shape) + spec.n_outputs)
        steps = max(1, min(TASKS // per_step, NUMBERS // (per_step * size), (self.train_tasks - before) // self.batch))
        starts = [before + step * self.batch for step in range(steps)]
        whole = sampler.sample([seed for start in starts for seeds in self.seeds(start) for seed in seeds])
        parts = [slice(step * per_step, (step + 1) * per_step) for step in range(steps)]
        self._first, self._tasks = before, [Episode(whole.support[p], whole.query[p]) for p in parts]
