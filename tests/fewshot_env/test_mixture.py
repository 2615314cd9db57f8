"""Mixtures of domains: each task from one of several families."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from fewshot_env.errors import FewShotError
from fewshot_env.mixture import Mixture
from fewshot_env.pair import EnvPair
from fewshot_env.registry import ENVS, find
from fewshot_env.rng import task_seeds
from fewshot_env.sampler import sampler_class
from fewshot_env.shapes import by_shape

SEEDS = task_seeds(0, "train", 0, 200)


def mixture(name, **settings):
    return sampler_class(find(name).sampler)(**settings)


def family(name, **settings):
    return sampler_class(find(name).sampler)(**settings)


@pytest.fixture
def mixed(data_dir):
    settings = {"n_way": 3, "n_shot": 1, "n_query": 2, "data_dir": str(data_dir)}
    return mixture("mini+cub", **settings), [family(name, **settings) for name in ("mini", "cub")]


def test_every_task_is_one_of_a_familys_and_all_families_come_equally_often(mixed):
    whole, parts = mixed
    assert isinstance(whole, Mixture)
    sampled, of_parts = whole.sample(SEEDS), [part.sample(SEEDS) for part in parts]
    assert sampled.support.x.dtype == torch.uint8
    found = []
    for i in range(len(SEEDS)):
        same = [torch.equal(sampled.query.x[i], of.query.x[i]) for of in of_parts]
        assert sum(same) == 1
        of = of_parts[same.index(True)]
        assert torch.equal(sampled.support.x[i], of.support.x[i])
        assert torch.equal(sampled.support.y[i], of.support.y[i])
        assert torch.equal(sampled.query.y[i], of.query.y[i])
        found.append(same.index(True))
    assert 65 < sum(found) < 135  # 100, give or take five deviations
    alone = whole.sample(SEEDS[7:8])
    assert torch.equal(alone.support.x[0], sampled.support.x[7])


def test_minibatches_number_the_classes_through(data_dir):
    settings = {"minibatch": 12, "data_dir": str(data_dir)}
    whole, parts = mixture("mini+cub", **settings), [family(n, **settings) for n in ("mini", "cub")]
    ours, theirs = (part.spec.n_base_classes for part in parts)
    assert whole.spec.n_outputs == whole.spec.n_base_classes == ours + theirs
    sampled, (first, second) = whole.sample(SEEDS).query, [part.sample(SEEDS).query for part in parts]
    is_second = sampled.y >= ours
    assert 0.45 < is_second.float().mean() < 0.55
    assert torch.equal(sampled.y, torch.where(is_second, second.y + ours, first.y))
    b, m = 3, int(is_second[3].int().argmax())
    assert torch.equal(sampled.x[b, m], second.x[b, m])


def test_settings_go_to_all_that_know_them(data_dir):
    whole = mixture("glyphs+mini", size=84, n_way=3, n_query=2, data_dir=str(data_dir))
    assert set(whole.Config.model_fields) == set(sampler_class(ENVS["glyphs"].sampler).Config.model_fields)
    assert whole.spec.in_shape == (3, 84, 84)
    assert whole.sample(SEEDS[:4]).support.x.shape == (4, 3, 3, 84, 84)


def test_variable_shapes_in_a_mixture():
    whole = mixture("glyphs+textures", n_way="2-4", n_query=1)
    for portion in by_shape(whole, SEEDS[:20], most=4):
        task = whole.sample([SEEDS[i] for i in portion])
        assert task.query.x.shape[:2] == task.query.y.shape
    with pytest.raises(FewShotError, match="different shapes"):
        whole.sample(SEEDS[:20])


def test_sines_mix_too_and_regression_minibatches_pool_them():
    plain = sampler_class("fewshot_env.sine:SineSampler")
    twice = type("Twice", (Mixture,), {"Config": plain.Config, "parts": {"a": plain, "b": plain}})
    sampled = twice(minibatch=7).sample(SEEDS[:3])
    assert torch.equal(sampled.query.y, plain(minibatch=7).sample(SEEDS[:3]).query.y)


def test_what_cannot_be_mixed(data_dir):
    with pytest.raises(FewShotError, match=r"glyphs has .*28x28.*, mini has .*84x84"):
        mixture("glyphs+mini", data_dir=str(data_dir), n_query=2)
    with pytest.raises(FewShotError, match="twice"):
        find("mini+mini")
    with pytest.raises(FewShotError, match=r"unknown environment 'cob'.*did you mean 'cub'"):
        find("mini+cob")


def test_pairs_and_gymnasium_ids():
    pair = EnvPair.parse("glyphs + textures->glyphs")
    assert (str(pair), pair.slug) == ("glyphs+textures->glyphs", "glyphs+textures-to-glyphs")
    assert "glyphs+textures" not in ENVS
    assert EnvPair.parse("mini+cub->omniglot").target.name == "omniglot"
    env = gymnasium.make(pair.source.id, n_way=3)
    obs, _ = env.reset(seed=1)
    assert obs in env.observation_space
    check_env(env.unwrapped)
    vector = gymnasium.make_vec(pair.source.id, num_envs=3, n_way=3)
    assert np.allclose(vector.reset(seed=[1, 2, 3])[0]["query_x"][0], obs["query_x"])
