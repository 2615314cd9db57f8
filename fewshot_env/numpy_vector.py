"""NumpyVector: the vector environment in numpy, on which Gymnasium's wrappers for vector environments work."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray

Obs = dict[str, NDArray[Any]]


class NumpyVector(VectorWrapper):
    """Observations, rewards, flags and infos of a FewShotVectorEnv as numpy arrays on the CPU; answers from numpy.

    Wrappers that need an automatic reset (NormalizeObservation) refuse it, as they refuse the environment: every task
    ends after one step, and `reset` samples the next tasks.

    Args:
        env: a FewShotVectorEnv.

    Example:
        >>> env = NumpyVector(gymnasium.make_vec("FewShot/Sine-v0", num_envs=8))
        >>> env = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
        >>> obs, info = env.reset(seed=1)
        >>> _, rewards, _, _, info = env.step(env.action_space.sample())  # rewards: float64 [8]
    """

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """As the environment's."""
        options = {k: v for k, v in (options or {}).items() if k != "reset_mask"}  # every task ends after one step
        obs, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        info = _arrays(info)
        return _arrays(obs), info | {"n_outputs": np.full(self.num_envs, info["n_outputs"])}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Obs, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """As the environment's; rewards are float64 [B]."""
        obs, rewards, terminated, truncated, info = self.env.step(actions)
        ended, cut = (flags.cpu().numpy() for flags in (terminated, truncated))
        return _arrays(obs), rewards.cpu().numpy().astype(np.float64), ended, cut, _arrays(info)


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    return {k: np.array(v.cpu().numpy()) if isinstance(v, torch.Tensor) else v for k, v in values.items()}
