"""FewShotVectorEnv: B tasks at once as torch tensors on the agent's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from fewshot_env.answers import read_answers
from fewshot_env.conformance import Verifier
from fewshot_env.episode import Episode
from fewshot_env.sampler import SamplerSource, TaskSampler, build_sampler
from fewshot_env.shapes import shapes, varies
from fewshot_env.spaces import action_space, observation_space


class FewShotVectorEnv(VectorEnv[dict[str, Tensor], Tensor, Tensor]):
    """The batched interface of a task family: every `reset` samples B tasks, every `step` scores their answers.

    Tensors stay on `device`. `step` takes labels [B, Q], values [B, Q, N], or scores [B, Q, N], of which it takes the
    argmax; what it scores is detached, so that predictions may carry their graph.
    Gymnasium's wrappers for vector environments take numpy: put `fewshot_env.numpy_vector.NumpyVector` around
    the environment first.

    Where tasks have different shapes, the tasks of a batch have one: that of the first task drawn. `info["n_outputs"]`
    is the number of their classes, n <= N; scores may have n or N columns.

    Args:
        sampler: a task family, or its class or "module:Class" to be built with `settings`.
        num_envs: B, the tasks in a batch.
        device: where the tensors live.
        settings: the fields of the sampler's Config.

    Raises:
        FewShotError: where the data do not hold such tasks, or the first tasks are not what the sampler's spec says.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}

    def __init__(
        self,
        sampler: SamplerSource | TaskSampler,
        num_envs: int = 1,
        device: str | torch.device = "cpu",
        render_mode: None = None,
        **settings: Any,
    ) -> None:
        self.sampler = build_sampler(sampler, settings)
        self.task_spec = self.sampler.spec
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.render_mode = render_mode
        self._verified = Verifier()
        self._task: Episode | None = None
        self._seeds: Sequence[int] = ()

    def of_size(self, num_envs: int) -> FewShotVectorEnv:
        """The same tasks, so many at once: this environment, or another on its sampler."""
        if num_envs == self.num_envs:
            return self
        other = FewShotVectorEnv(self.sampler, num_envs, self.device)
        other._verified = self._verified
        return other

    @property
    def single_observation_space(self) -> spaces.Dict:  # type: ignore[override]
        """The space of one task (made on demand: a Box holds its bounds as arrays)."""
        return observation_space(self.sampler)

    @property
    def single_action_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        """The space of one task's answers."""
        return action_space(self.sampler)

    @property
    def observation_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        """The space of B tasks."""
        return batch_space(self.single_observation_space, self.num_envs)

    @property
    def action_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        """The space of B tasks' answers."""
        return batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Sample B tasks. options: {"task_seed": B integers} samples those very tasks.

        A list of seeds samples at each place what the plain environment samples with that seed; None goes on with
        this environment's own random numbers.
        Raises FewShotError where tasks that were asked for have different shapes.
        """
        if isinstance(seed, list) and any(s is not None for s in seed):
            if None not in seed:
                self._np_random = np.random.default_rng([s for s in seed if s is not None])
            drawn = [self._draw(1)[0] if s is None else _first_seed(s) for s in seed]
        else:
            super().reset(seed=None if isinstance(seed, list) else seed)
            mixed = varies(self.sampler) and "task_seed" not in (options or {})
            drawn = self._alike() if mixed else self._draw(self.num_envs)
        self._seeds = [int(s) for s in (options or {}).get("task_seed", drawn)]
        if len(self._seeds) != self.num_envs:
            raise ValueError(f"got {len(self._seeds)} task seeds for {self.num_envs} environments")
        self._task = self._verified(self.sampler, self.sampler.sample(self._seeds)).to(self.device)
        n_outputs = int(shapes(self.sampler, self._seeds[:1])[0, 0])  # all have one shape, else sample refuses
        obs = {
            "support_x": self._task.support.x,
            "support_y": self._task.support.labels,
            "query_x": self._task.query.x,
        }
        return obs, {"task_seed": np.array(self._seeds), "n_outputs": n_outputs}

    def _draw(self, count: int) -> list[int]:
        return [int(s) for s in self.np_random.integers(2**63, size=count)]

    def _alike(self) -> list[int]:
        """B task seeds of one shape: the first is drawn, and of the others those that have its shape are kept."""
        kept = self._draw(1)
        shape = shapes(self.sampler, kept)
        while len(kept) < self.num_envs:
            more = self._draw(64)
            kept += [s for s, same in zip(more, (shapes(self.sampler, more) == shape).all(1), strict=True) if same]
        return kept[: self.num_envs]

    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Score the answers of B tasks: rewards [B], all terminated, info["query_y"] as [B, Q] or [B, Q, N].

        Raises FewShotError where the answers are not what `fewshot_env.answers` reads; the tasks stay as they were.
        """
        if self._task is None:
            raise gymnasium.error.ResetNeeded("one task is one step: call reset before step")
        task, targets = self._task, self._task.query.labels
        spec = self.sampler.spec
        rewards = spec.score(read_answers(spec, actions, tuple(targets.shape[:2]), self.device), targets)
        self._task = None
        blank = {
            "support_x": torch.zeros((), device=self.device).expand(task.support.x.shape),
            "support_y": torch.zeros_like(task.support.labels),
            "query_x": torch.zeros((), device=self.device).expand(task.query.x.shape),
        }
        ended = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        info = {"task_seed": np.array(self._seeds), "query_y": targets}
        return blank, rewards, ended, torch.zeros_like(ended), info


def _first_seed(seed: int) -> int:
    """The task seed that the plain environment draws first after `reset(seed=seed)`."""
    return int(np.random.default_rng(seed).integers(2**63))
