"""Many environments at once: processes by fork and spawn, randomness that is nobody else's, hashes that stay."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv

import fewshot_env  # noqa: F401  registers the ids
from fewshot_env.vector import FewShotVectorEnv
from fewshot_env.worlds.sampler import Glyphs
from runners.evaluation.evaluate import episode_hash, frozen_seeds


def make(number=0):
    return gymnasium.make("FewShot/Sine-v0")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(("context", "count"), [("fork", 24), ("spawn", 2)])
def test_workers_sample_what_one_process_samples_and_share_no_randomness(context, count):
    envs = AsyncVectorEnv([make] * count, context=context)
    try:
        for seed in (3, None, None):  # seeded, then each from its own stream
            obs, info = envs.reset(seed=seed)
            assert len(set(info["task_seed"].tolist())) == count
            assert len(np.unique(obs["query_x"], axis=0)) == count
            if seed is not None:
                for b in range(count):
                    own, own_info = make().reset(seed=seed + b)
                    assert own_info["task_seed"] == info["task_seed"][b]
                    assert all((own[name] == obs[name][b]).all() for name in own)
        *_, info = envs.step(np.zeros((count, 50, 1), np.float32))
        assert info["query_y"].shape == (count, 50, 1)
    finally:
        envs.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_without_a_seed_do_not_repeat_each_other():
    """Forked workers inherit the parent's generators; tasks must not come from those."""
    np.random.seed(0)
    envs = AsyncVectorEnv([make] * 6, context="fork")
    try:
        sampled = {seed for _ in range(3) for seed in envs.reset()[1]["task_seed"].tolist()}
        assert len(sampled) == 18
    finally:
        envs.close()


def test_the_hash_of_the_glyph_test_is_the_same_everywhere():
    """The stored value: the 600 test episodes of docs/results/worlds.md."""
    env = FewShotVectorEnv(Glyphs(split="test"))
    assert episode_hash(env, frozen_seeds("test", 600)) == "83409359298baf75"
