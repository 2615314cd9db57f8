"""One outer step: the Gymnasium loop over a meta-batch, in the parts that are best computed at once."""

from __future__ import annotations

from collections.abc import Sequence

from agents.engine.stack import Stack
from fewshot_env.episode import Episode
from fewshot_env.rng import task_seeds
from fewshot_env.shapes import by_shape
from fewshot_env.vector import FewShotVectorEnv
from runners.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from runners.loggers.base import Row


def sampled_seeds(run_seed: int, tasks_seen: int, meta_batch: int, group: ProcessGroup) -> list[int]:
    """The task seeds of this process's share of a run's next meta-batch."""
    share = group.share(meta_batch)
    return task_seeds(run_seed, "train", tasks_seen + share.start, len(share))


def outer_step(
    stack: Stack,
    env: FewShotVectorEnv,
    seeds: Sequence[Sequence[int]],
    group: ProcessGroup = SINGLE_PROCESS,
    ahead: Episode | None = None,
) -> tuple[list[tuple[int, list[Row]]], list[Row]]:
    """Sample tasks, adapt, predict, have the answers scored; after the last part, learn.

    Args:
        stack: the runs that are trained side by side.
        env: their environment, with any number of tasks at once.
        seeds: of each run, its task seeds. A part has tasks of one shape, as many as are best computed at once.
        group: the processes that share the meta-batch.
        ahead: where tasks were sampled before (runners.training.ahead), those of the step, ordered by run, for an agent
            that learns from all at once; seeds are not needed then.

    Returns:
        For each part its number of tasks and what `inspect` says of every run; and every run's row of the outer step.
    """
    agent = stack.agent
    inner: list[tuple[int, list[Row]]] = []
    if ahead is not None:
        adapted = agent.outer.add_at_once(ahead)
        inner.append((len(ahead.query.x) // stack.runs, list(stack.inspect(adapted))))
    for part in () if ahead is not None else by_shape(env.sampler, seeds[0], agent.at_once or len(seeds[0])):
        part_seeds = [of_run[i] for of_run in seeds for i in part]
        part_env = env.of_size(len(part_seeds))
        obs, _ = part_env.reset(options={"task_seed": part_seeds})
        episode = Episode.from_obs(obs)
        adapted = agent.adapt(episode.support)
        predictions = episode.restrict(agent.predict(adapted, episode.query.x))
        *_, info = part_env.step(predictions)
        agent.outer.add(adapted, predictions, info["query_y"])
        inner.append((len(part), list(stack.inspect(adapted))))
    return inner, list(stack.finish_step(group.sum if group.size > 1 else None))
