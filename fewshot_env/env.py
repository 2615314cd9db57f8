"""FewShotEnv: one task as a one-step Gymnasium episode, in numpy."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from fewshot_env.episode import Episode, TaskSpec
from fewshot_env.sampler import TaskSampler, build_sampler

Obs = dict[str, NDArray[Any]]


def observation_space(spec: TaskSpec, support_size: int, query_size: int) -> spaces.Dict:
    """support_x [S, *in_shape], support_y [S] or [S, 1], query_x [Q, *in_shape]."""

    def items(n: int) -> spaces.Box:
        return spaces.Box(spec.x_range[0], spec.x_range[1], (n, *spec.in_shape), np.float32)

    answers: spaces.Space[Any]
    if spec.kind == "classification":
        answers = spaces.MultiDiscrete([spec.n_outputs] * support_size)
    else:
        answers = spaces.Box(-np.inf, np.inf, (support_size, 1), np.float32)
    return spaces.Dict({"support_x": items(support_size), "support_y": answers, "query_x": items(query_size)})


def action_space(spec: TaskSpec, query_size: int) -> spaces.Space[Any]:
    """One label per query item, MultiDiscrete [Q]; or one value, Box [Q, 1] within spec.y_range."""
    if spec.kind == "classification":
        return spaces.MultiDiscrete([spec.n_outputs] * query_size)
    return spaces.Box(spec.y_range[0], spec.y_range[1], (query_size, 1), np.float32)


class FewShotEnv(gymnasium.Env[Obs, NDArray[Any]]):
    """`reset` deals a task; `step(answers)` marks them and ends the episode.

    The reward is the accuracy in [0, 1], or minus the mean squared error. Query answers appear only
    in the info of `step` ("query_y"). Every task comes from `info["task_seed"]`, and
    `reset(options={"task_seed": n})` deals that task again.

    Args:
        sampler: a task family, or "module:Class" to be built with `settings`.
        render_mode: None, or "rgb_array" (a contact sheet or a plot, uint8 [H, W, 3]).
        settings: the fields of the sampler's Config.

    Raises:
        FewShotError: where the data do not hold such tasks.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(self, sampler: str | TaskSampler, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}, but must be None or 'rgb_array'")
        self.sampler = build_sampler(sampler, settings)
        self.task_spec = self.sampler.spec
        self.render_mode = render_mode
        self._spaces = observation_space(self.sampler.spec, self.sampler.support_size, self.sampler.query_size)
        self.observation_space: spaces.Space[Obs] = self._spaces  # type: ignore[assignment]
        self.action_space = action_space(self.sampler.spec, self.sampler.query_size)
        self._task: Episode | None = None
        self._task_seed = 0
        self._answers: torch.Tensor | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Deal a task. options: {"task_seed": int} deals that very task."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**63))
        self._task_seed = int((options or {}).get("task_seed", drawn))
        self._task, self._answers = self.sampler.sample([self._task_seed]).to("cpu"), None
        support, query = self._task.support, self._task.query
        obs = {
            "support_x": _array(support.x),
            "support_y": _array(support.labels),
            "query_x": _array(query.x),
        }
        return obs, {"task_seed": self._task_seed}

    def step(self, action: NDArray[Any]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Mark the answers `action` ([Q] labels or [Q, 1] values); the terminal observation is zeros."""
        if self._task is None or self._answers is not None:
            raise gymnasium.error.ResetNeeded("one task is one step: call reset before step")
        targets = self._task.query.labels
        self._answers = torch.as_tensor(np.asarray(action)).reshape(1, *targets.shape[1:])
        reward = float(self.sampler.spec.score(self._answers, targets)[0])
        info = {"task_seed": self._task_seed, "query_y": _array(targets)}
        blank = {name: np.zeros(space.shape or (), space.dtype) for name, space in self._spaces.items()}
        return blank, reward, True, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """The current task for people, true answers included, with those of the last step: uint8 [H, W, 3] or None."""
        if self.render_mode is None or self._task is None:
            return None
        from fewshot_env.render import draw

        return draw(self.sampler.spec, self._task, {} if self._answers is None else {"answers": self._answers[0]})


def _array(batch: torch.Tensor) -> NDArray[Any]:
    """Task 0 of a batch as a fresh contiguous array."""
    return np.array(batch[0].numpy(), order="C", copy=True)
