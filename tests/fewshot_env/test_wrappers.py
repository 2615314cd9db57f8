"""Gymnasium's wrappers around both interfaces; parallel environments by fork with torch's default threads."""

import subprocess
import sys

import gymnasium
import gymnasium.wrappers as single
import gymnasium.wrappers.vector as vector
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

import fewshot_env
from fewshot_env.numpy_vector import NumpyVector

SMALL = {"FewShot/Sine-v0": {}, "FewShot/Glyphs-v0": {"n_way": 3, "n_query": 2}}

VECTOR = {
    "RecordEpisodeStatistics": vector.RecordEpisodeStatistics,
    "NormalizeReward": vector.NormalizeReward,
    "ClipReward": lambda env: vector.ClipReward(env, -1, 0.5),
    "TransformReward": lambda env: vector.TransformReward(env, lambda r: 2 * r),
    "DictInfoToList": vector.DictInfoToList,
    "FlattenObservation": vector.FlattenObservation,
    "FilterObservation": lambda env: vector.FilterObservation(env, ["query_x"]),
}


@pytest.mark.parametrize("id_", SMALL)
@pytest.mark.parametrize("name", VECTOR)
def test_wrappers_of_the_vector_environment(name, id_):
    env = VECTOR[name](NumpyVector(gymnasium.make_vec(id_, num_envs=4, **SMALL[id_])))
    bare = gymnasium.make_vec(id_, num_envs=4, **SMALL[id_])
    for seed in (1, 2):
        env.reset(seed=seed)
        bare.reset(seed=seed)
        answers = bare.action_space.sample()
        _, rewards, ended, cut, _ = env.step(answers)
        truth = bare.step(answers)[1].numpy()
        assert (rewards.dtype, ended.all(), cut.any()) == (np.float64, True, False)
        expected = {"ClipReward": truth.clip(-1, 0.5), "TransformReward": 2 * truth}.get(name, truth)
        if name != "NormalizeReward":
            assert rewards == pytest.approx(expected, rel=1e-6)


def test_statistics_of_the_vector_environment():
    env = vector.RecordEpisodeStatistics(NumpyVector(gymnasium.make_vec("FewShot/Sine-v0", num_envs=3)))
    for seed in range(3):
        obs, info = env.reset(seed=seed)
        assert isinstance(obs["query_x"], np.ndarray)
        assert info["n_outputs"].tolist() == [1, 1, 1]
        *_, info = env.step(np.zeros((3, 50, 1)))
        assert info["episode"]["l"].tolist() == [1, 1, 1]
        assert info["episode"]["r"] == pytest.approx(-(info["query_y"] ** 2).mean((1, 2)), rel=1e-5)


SINGLE = {
    "RecordEpisodeStatistics": single.RecordEpisodeStatistics,
    "NormalizeReward": single.NormalizeReward,
    "TransformReward": lambda env: single.TransformReward(env, lambda r: 2 * r),
    "FlattenObservation": single.FlattenObservation,
    "FilterObservation": lambda env: single.FilterObservation(env, ["query_x"]),
    "TimeLimit": lambda env: single.TimeLimit(env, 3),
    "TimeAwareObservation": lambda env: single.TimeAwareObservation(single.TimeLimit(env, 3)),
    "Autoreset": single.Autoreset,
    "StickyAction": lambda env: single.StickyAction(env, 0.5),
    "FrameStackObservation": lambda env: single.FrameStackObservation(env, 2),
    "RenderCollection": single.RenderCollection,
    "AddRenderObservation": single.AddRenderObservation,
}


@pytest.mark.parametrize("id_", SMALL)
@pytest.mark.parametrize("name", SINGLE)
def test_wrappers_of_the_plain_environment(name, id_):
    env = SINGLE[name](gymnasium.make(id_, render_mode="rgb_array", **SMALL[id_]))
    for _ in range(2):
        obs, _ = env.reset(seed=1)
        assert obs in env.observation_space
        env.step(env.action_space.sample())


def test_the_sync_vector_environment_of_gymnasium():
    make = lambda: gymnasium.make("FewShot/Glyphs-v0", **SMALL["FewShot/Glyphs-v0"])  # noqa: E731
    env = vector.NormalizeReward(vector.RecordEpisodeStatistics(SyncVectorEnv([make, make])))
    env.reset(seed=1)
    for _ in range(4):  # a step that resets, in between
        env.step(env.action_space.sample())


FORKED = """
import sys, torch, gymnasium, numpy as np, fewshot_env
torch.set_num_threads(4)  # as on a machine of four cores; pools of threads start with the first large product
id_, settings = sys.argv[1], dict(n_way=5, n_query=16, data_dir=sys.argv[2]) if sys.argv[2] else {}
torch.randn(900, 900) @ torch.randn(900, 900)
(torch.zeros(10**6, dtype=torch.uint8).float() / 255).sum()
plain = gymnasium.make(id_, **settings)
plain.reset(seed=0)
batch, _ = gymnasium.make_vec(id_, num_envs=4, **settings).reset(seed=0)
torch.nn.functional.conv2d(torch.randn(64, 3, 84, 84), torch.randn(8, 3, 3, 3), ).sum()
many = gymnasium.make_vec(id_, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "fork"}, **settings)
obs, info = many.reset(seed=0)
own, _ = plain.reset(seed=0)
assert all((own[name] == obs[name][0]).all() for name in own)
many.step(many.action_space.sample())
many.close()
assert torch.get_num_threads() == 4
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sine", "mini", "cub", "omniglot", "glyphs", "textures"])
def test_forked_workers_after_torch_was_used_here(name, data_dir):
    """In a process of its own, with several threads: the suite's single thread hides that a child waits for ever."""
    words = [fewshot_env.ENVS[name].id, "" if name == "sine" else str(data_dir)]
    code = (
        FORKED
        if name in ("sine", "glyphs", "textures")
        else FORKED.replace("n_way=5, n_query=16", "n_way=3, n_query=4")
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
