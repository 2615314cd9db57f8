"""The Gymnasium spaces of a family of tasks.

Where tasks have different shapes, a set of observed items is a `Sequence` space: arrays with as many rows as the task
has items, nothing padded. The action space always has one fixed shape, that of the answers to the largest task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from fewshot_env.sampler import TaskSampler
from fewshot_env.shapes import varies


def observation_space(sampler: TaskSampler) -> spaces.Dict:
    """support_x [S, *in_shape], support_y [S] or [S, N], query_x [Q, *in_shape]."""
    spec = sampler.spec
    x = spaces.Box(*spec.x_range, spec.in_shape, np.float32)
    y: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (spec.n_outputs,), np.float32)
    if spec.kind == "classification":
        y = spaces.Discrete(spec.n_outputs)

    def items(one: spaces.Space[Any], n: int) -> spaces.Space[Any]:
        return spaces.Sequence(one, stack=True) if varies(sampler) else batch_space(one, n)

    support_x, support_y = items(x, sampler.support_size), items(y, sampler.support_size)
    return spaces.Dict({"support_x": support_x, "support_y": support_y, "query_x": items(x, sampler.query_size)})


def action_space(sampler: TaskSampler) -> spaces.Space[Any]:
    """One label per query item of the largest task, MultiDiscrete [Q]; or values, Box [Q, N] within spec.y_range."""
    spec = sampler.spec
    if spec.kind == "classification":
        return spaces.MultiDiscrete([spec.n_outputs] * sampler.query_size)
    return spaces.Box(*spec.y_range, (sampler.query_size, spec.n_outputs), np.float32)
