"""The Gymnasium interfaces of every registered environment."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import fewshot_env
from fewshot_env.env import FewShotEnv

IDS = {entry.name: entry.id for entry in fewshot_env.ENVS.values()}


@pytest.fixture(params=["sine", "mini", "cub", "omniglot", "glyphs", "textures"])
def make(request, data_dir):
    """Arguments for gymnasium.make of each environment."""
    images = {"n_way": 3, "n_shot": 1, "n_query": 2, "data_dir": str(data_dir)}
    return (IDS[request.param], {} if request.param == "sine" else images)


def test_all_registered_ids_are_covered():
    assert sorted(IDS) == ["cub", "glyphs", "mini", "omniglot", "sine", "textures"]


def test_check_env(make):
    id_, settings = make
    with warnings.catch_warnings():
        # opinions on unbounded observations, spaces that are not normalised, and missing viewers
        warnings.simplefilter("ignore", UserWarning)
        check_env(gymnasium.make(id_, **settings).unwrapped)
        sb3_check_env(gymnasium.make(id_, **settings).unwrapped)


def test_one_task_is_one_step(make):
    id_, settings = make
    env = gymnasium.make(id_, **settings)
    obs, info = env.reset(seed=3)
    assert obs in env.observation_space
    assert set(info) == {"task_seed", "n_outputs"}
    answers = env.action_space.sample()
    last, reward, terminated, truncated, info = env.step(answers)
    assert (terminated, truncated) == (True, False)
    assert all((value == 0).all() for value in last.values())
    truth = info["query_y"]
    expected = (answers == truth).mean() if truth.ndim == 1 else -((answers - truth) ** 2).mean()
    assert reward == pytest.approx(expected, rel=1e-5)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.unwrapped.step(answers)
    again, info = env.reset(options={"task_seed": info["task_seed"]})
    assert all((obs[name] == again[name]).all() for name in obs)
    assert env.step(truth)[1] == pytest.approx(1 if truth.ndim == 1 else 0, abs=1e-6)


def test_seeding_and_fresh_arrays(make):
    id_, settings = make
    env, twin = gymnasium.make(id_, **settings), gymnasium.make(id_, **settings)
    first, info = env.reset(seed=5)
    kept = {name: value.copy() for name, value in first.items()}
    second, _ = env.reset()
    assert all((kept[name] == first[name]).all() for name in kept)
    assert any((kept[name] != second[name]).any() for name in kept)
    other, other_info = twin.reset(seed=5)
    assert info == other_info
    assert all((kept[name] == other[name]).all() for name in kept)


def test_record_episode_statistics(make):
    id_, settings = make
    env = RecordEpisodeStatistics(gymnasium.make(id_, **settings))
    env.reset(seed=1)
    *_, info = env.step(env.action_space.sample())
    assert info["episode"]["l"] == 1


def test_render(make):
    id_, settings = make
    env = gymnasium.make(id_, render_mode="rgb_array", **settings)
    env.reset(seed=1)
    before = env.render()
    assert before.dtype == np.uint8
    assert before.shape[2] == 3
    assert before.std() > 5
    env.step(env.action_space.sample())
    assert not np.array_equal(before, env.render())
    with pytest.raises(ValueError, match="render_mode"):
        FewShotEnv("fewshot_env.sine:SineSampler", render_mode="ansi")


def test_the_vector_env_samples_what_the_plain_env_samples(make):
    id_, settings = make
    vector = gymnasium.make_vec(id_, num_envs=3, **settings)
    assert vector.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.DISABLED
    obs, info = vector.reset(seed=[7, 8, 9])
    plain = gymnasium.make(id_, **settings)
    answers = []
    for b, seed in enumerate((7, 8, 9)):
        single, single_info = plain.reset(seed=seed)
        assert single_info["task_seed"] == info["task_seed"][b]
        for name, value in single.items():
            assert (obs[name][b].numpy() == value).all()
        answers.append(plain.action_space.sample())
    _, rewards, terminated, truncated, info = vector.step(torch.as_tensor(np.stack(answers)))
    for b, seed in enumerate((7, 8, 9)):
        plain.reset(seed=seed)
        _, reward, *_, single_info = plain.step(answers[b])
        assert rewards[b].item() == pytest.approx(reward, rel=1e-6)
        assert (single_info["query_y"] == info["query_y"][b].numpy()).all()
    assert terminated.all()
    assert not truncated.any()
    assert vector.observation_space.contains({n: np.asarray(v) for n, v in obs.items()})


def test_the_vector_env_scores_the_argmax_and_detaches(data_dir):
    vector = gymnasium.make_vec(IDS["mini"], num_envs=2, n_way=3, n_shot=1, n_query=2, data_dir=str(data_dir))
    vector.reset(seed=1)
    scores = torch.randn(2, 6, 3, requires_grad=True)
    _, rewards, _, _, info = vector.step(scores)
    assert not rewards.requires_grad
    assert torch.allclose(rewards, (scores.argmax(-1) == info["query_y"]).float().mean(1))
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step(scores)


def test_wrong_number_of_task_seeds():
    with pytest.raises(ValueError, match="2 task seeds for 3"):
        gymnasium.make_vec(IDS["sine"], num_envs=3).reset(options={"task_seed": [1, 2]})


def test_async_vector_env():
    envs = gymnasium.make_vec(IDS["sine"], num_envs=2, vectorization_mode="async")
    obs, _ = envs.reset(seed=3)
    assert obs["query_x"].shape == (2, 50, 1)
    envs.close()
