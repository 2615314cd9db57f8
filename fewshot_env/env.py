"""FewShotEnv: one task as a one-step Gymnasium episode, in numpy."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from fewshot_env.answers import read_answers
from fewshot_env.conformance import Verifier
from fewshot_env.episode import Episode
from fewshot_env.sampler import SamplerSource, TaskSampler, build_sampler
from fewshot_env.shapes import shapes
from fewshot_env.spaces import action_space, observation_space

Obs = dict[str, NDArray[Any]]


class FewShotEnv(gymnasium.Env[Obs, NDArray[Any]]):
    """`reset` samples a task; `step(answers)` scores the answers and ends the episode.

    The reward is the accuracy in [0, 1], or minus the mean squared error. Query answers appear only in the info of
    `step` ("query_y"). Every task comes from `info["task_seed"]`, and `reset(options={"task_seed": n})` samples that
    task again; `info["n_outputs"]` is the number of its classes, or of values.

    Args:
        sampler: a task family, or its class or "module:Class" to be built with `settings`.
        render_mode: None, or "rgb_array" (a contact sheet or a plot, uint8 [H, W, 3]).
        settings: the fields of the sampler's Config.

    Raises:
        FewShotError: where the data do not hold such tasks, or the first task is not what the sampler's spec says.

    Example:
        >>> env = gymnasium.make("FewShot/Sine-v0")
        >>> obs, info = env.reset(seed=1)  # support_x, support_y, query_x
        >>> _, reward, _, _, info = env.step(0 * obs["query_x"])
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(self, sampler: SamplerSource | TaskSampler, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}, but must be None or 'rgb_array'")
        self.sampler = build_sampler(sampler, settings)
        self.task_spec = self.sampler.spec
        self.render_mode = render_mode
        self.observation_space: spaces.Space[Obs] = observation_space(self.sampler)  # type: ignore[assignment]
        self.action_space = action_space(self.sampler)
        self._verified = Verifier()
        self._task: Episode | None = None
        self._task_seed = 0
        self._answers: torch.Tensor | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Sample a task. options: {"task_seed": int} samples that very task."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**63))
        self._task_seed = int((options or {}).get("task_seed", drawn))
        task = self._verified(self.sampler, self.sampler.sample([self._task_seed]))
        self._task, self._answers = task.to("cpu"), None
        ((n_outputs, _, _),) = shapes(self.sampler, [self._task_seed]).tolist()
        return _observation(self._task), {"task_seed": self._task_seed, "n_outputs": n_outputs}

    def step(self, action: NDArray[Any]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Score the answers; the terminal observation is zeros.

        Args:
            action: classification: labels [Q], or scores [Q, N], of which the highest counts; regression: values
                [Q, N]. Where tasks have different shapes, there may be as many as the action space has: those beyond
                the task's query items are ignored.

        Raises:
            FewShotError: where they are neither, or a label is not in [0, N).
            gymnasium.error.ResetNeeded: without a task, and a second time for the same.
        """
        if self._task is None or self._answers is not None:
            raise gymnasium.error.ResetNeeded("one task is one step: call reset before step")
        targets = self._task.query.labels
        n, most = targets.shape[1], self.sampler.query_size
        given = most if hasattr(action, "__len__") and len(action) == most else n  # any other is refused
        answers = read_answers(self.sampler.spec, action, (given,))[None, :n]
        labels = answers.argmax(-1) if self.sampler.spec.kind == "classification" and answers.dim() == 3 else answers
        self._answers = labels
        reward = float(self.sampler.spec.score(answers, targets)[0])
        info = {"task_seed": self._task_seed, "query_y": _array(targets)}
        blank = {name: np.zeros_like(value) for name, value in _observation(self._task).items()}
        return blank, reward, True, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """The current task for people, true answers included, with those of the last step: uint8 [H, W, 3] or None."""
        if self.render_mode is None or self._task is None:
            return None
        from fewshot_env.render import draw

        return draw(self.sampler.spec, self._task, {} if self._answers is None else {"answers": self._answers[0]})


def _observation(task: Episode) -> Obs:
    support, query = task.support, task.query
    return {"support_x": _array(support.x), "support_y": _array(support.labels), "query_x": _array(query.x)}


def _array(batch: torch.Tensor) -> NDArray[Any]:
    """Task 0 of a batch as a fresh contiguous array."""
    return np.array(batch[0].numpy(), order="C", copy=True)
