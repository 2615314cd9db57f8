"""One outer step: the Gymnasium loop over a meta-batch, in the parts that are best computed at once."""

from __future__ import annotations

from collections.abc import Sequence

from agents.engine.stack import Stack
from fewshot_env.episode import Episode
from fewshot_env.rng import task_seeds
from fewshot_env.shapes import by_shape
from fewshot_env.vector import FewShotVectorEnv
from runners.distributed.process_group import Team

Row = dict[str, float]


def dealt_seeds(run_seed: int, tasks_seen: int, meta_batch: int, team: Team) -> list[int]:
    """The task seeds of this process's share of a run's next meta-batch."""
    share = team.share(meta_batch)
    return task_seeds(run_seed, "train", tasks_seen + share.start, len(share))


def outer_step(
    stack: Stack, env: FewShotVectorEnv, seeds: Sequence[Sequence[int]]
) -> tuple[list[tuple[int, list[Row]]], list[Row]]:
    """Deal tasks, adapt, predict, have them marked; after the last part, learn.

    seeds: of each of the stack's runs, its task seeds. env: with any number of tasks at once. A part has tasks of one
    shape, as many as are best computed at once. Returns for each part its number of tasks and what `inspect` says
    of every run; and what `meta_update` says of every run.
    """
    agent, inner, rows = stack.agent, [], []
    parts = by_shape(env.sampler, seeds[0], agent.at_once or len(seeds[0]))
    for part in parts:
        own = [of_run[i] for of_run in seeds for i in part]
        face = env.of_size(len(own))
        obs, _ = face.reset(options={"task_seed": own})
        episode = Episode.from_obs(obs)
        adapted = agent.adapt(episode.support)
        predictions = episode.restrict(agent.predict(adapted, episode.query.x))
        *_, info = face.step(predictions)
        inner.append((len(part), stack.inspect(adapted)))
        if part is parts[-1]:
            rows = stack.meta_update(predictions, info["query_y"])
        else:
            agent.accumulate(predictions, info["query_y"])
    return inner, rows
