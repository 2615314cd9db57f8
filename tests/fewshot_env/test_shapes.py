"""Tasks of different shapes: ways and shots that are drawn for every task."""

from typing import Annotated

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from pydantic import BaseModel, ValidationError

from fewshot_env.env import FewShotEnv
from fewshot_env.errors import FewShotError
from fewshot_env.images import ImageSampler
from fewshot_env.rng import task_seeds
from fewshot_env.shapes import IntRange, at_least, by_shape, shapes, varies
from fewshot_env.sine import SineSampler
from fewshot_env.vector import FewShotVectorEnv

SEEDS = task_seeds(0, "train", 0, 400)


@pytest.fixture
def drawn(small_store):
    return lambda **more: ImageSampler(small_store, n_way=(2, 4), n_shot=(1, 3), n_query=2, **more)


@pytest.mark.parametrize(
    ("given", "read"), [(5, 5), ("5", 5), ("3-10", (3, 10)), ((3, 10), (3, 10)), ([4, 4], 4), (" 2 - 3", (2, 3))]
)
def test_counts(given, read):
    assert Counted(n=given).n == read


class Counted(BaseModel):
    n: Annotated[IntRange, at_least(2)]


@pytest.mark.parametrize(
    "wrong", [1, "1-3", "5-3", "a", "", "2-3-4", [2, 3, 4], [], None, True, 2.5, [2, True], "-3", 10**20]
)
def test_wrong_counts(wrong):
    with pytest.raises(ValidationError, match="whole number from 2 to 10000, or two of them, LOW-HIGH"):
        Counted(n=wrong)


@pytest.mark.parametrize("balanced", [True, False])
def test_image_tasks_are_what_their_shapes_say(drawn, balanced):
    sampler = drawn(balanced=balanced)
    assert varies(sampler)
    assert (sampler.spec.n_outputs, sampler.support_size, sampler.query_size) == (4, 12, 8)
    unequal, ways = 0, []
    for seed, (n_way, s, q) in zip(SEEDS, shapes(sampler, SEEDS).tolist(), strict=True):
        task = sampler.sample([seed])
        shots = task.support.y[0].bincount().tolist()
        assert len(shots) == n_way
        assert sum(shots) == s == task.support.x.shape[1]
        assert set(shots) <= {1, 2, 3}
        assert task.query.y[0].bincount().tolist() == [2] * n_way
        assert q == 2 * n_way == task.query.x.shape[1]
        images = torch.cat([task.support.x[0], task.query.x[0]]).flatten(1)
        assert len(images.unique(dim=0)) == s + q
        unequal += len(set(shots)) > 1
        ways.append(n_way)
    assert (unequal > 200) if not balanced else unequal == 0
    assert all(90 < ways.count(n) < 180 for n in (2, 3, 4))  # 133 of 400 each, give or take five deviations


def test_labels_belong_to_the_classes_that_the_images_have(drawn, small_store):
    sampler = drawn(balanced=False)
    class_of = {}
    for c in small_store.of_split("train"):
        for pixels in np.asarray(small_store.images[c.start : c.start + c.count]):
            class_of[pixels.tobytes()] = c.name
    for seed in SEEDS[:50]:
        task = sampler.sample([seed])
        names = {}
        for split in (task.support, task.query):
            for image, label in zip(split.x[0].permute(0, 2, 3, 1), split.y[0].tolist(), strict=True):
                names.setdefault(label, set()).add(class_of[image.numpy().tobytes()])
        assert all(len(of_label) == 1 for of_label in names.values())
        assert len(set.union(*names.values())) == len(names)


@pytest.mark.parametrize("family", ["images", "sine"])
def test_a_task_is_the_same_alone_and_among_others_of_its_shape(drawn, family):
    sampler = drawn(balanced=False) if family == "images" else SineSampler(n_shot="2-5", noise=0.3)
    portions = by_shape(sampler, SEEDS, most=7)
    assert sorted(i for portion in portions for i in portion) == list(range(400))
    assert max(map(len, portions)) == 7
    for portion in portions:
        together = sampler.sample([SEEDS[i] for i in portion])
        alone = sampler.sample([SEEDS[portion[-1]]])
        for a, b in ((together.support, alone.support), (together.query, alone.query)):
            assert torch.equal(a.x[-1], b.x[0])
            assert torch.equal(a.y[-1], b.y[0])


def test_one_shape_is_sampled_in_order():
    assert by_shape(SineSampler(), SEEDS[:5], most=2) == [[0, 1], [2, 3], [4]]
    assert not varies(SineSampler())
    assert shapes(SineSampler(), SEEDS[:2]).tolist() == [[1, 5, 50]] * 2


def test_the_numbers_of_shots_are_uniform():
    shots = shapes(SineSampler(n_shot=(2, 5)), task_seeds(1, "train", 0, 4000))[:, 1]
    counts = np.bincount(shots)[2:]
    assert len(counts) == 4
    assert abs(counts - 1000).max() < 130  # five standard deviations


def test_different_shapes_cannot_be_sampled_at_once(drawn):
    for sampler in (drawn(), SineSampler(n_shot=(2, 5))):
        with pytest.raises(FewShotError, match="different shapes"):
            sampler.sample(SEEDS)
        with pytest.raises(FewShotError, match="different shapes"):
            FewShotVectorEnv(sampler, 3).reset(options={"task_seed": SEEDS[:3]})


def test_more_than_the_data_allow(small_store):
    with pytest.raises(FewShotError, match="n_way is 900"):
        ImageSampler(small_store, n_way=(2, 900))
    with pytest.raises(FewShotError, match=r"n_shot \+ n_query needs 99 \+ 16"):
        ImageSampler(small_store, n_way=2, n_shot=(1, 99))


def test_fingerprints_tell_ranges_apart(drawn, small_store):
    plain = ImageSampler(small_store, n_way=2, n_shot=1, n_query=2)
    names = {drawn().fingerprint, drawn(balanced=False).fingerprint, plain.fingerprint}
    assert len(names) == 3
    assert "balanced" not in plain.fingerprint  # the name that such tasks had before there were ranges


def test_the_env(drawn):
    env = FewShotEnv(drawn(balanced=False), render_mode="rgb_array")
    check_env(FewShotEnv(env.sampler), skip_render_check=True)
    for seed in range(20):
        obs, info = env.reset(seed=seed)
        assert obs in env.observation_space
        assert info["n_outputs"] == obs["support_y"].max() + 1
        assert env.render().ndim == 3
        n = len(obs["query_x"])
        answers = env.action_space.sample()  # of the largest task; those too many are not looked at
        _, reward, *_, info = env.step(answers)
        assert reward == pytest.approx((answers[:n] == info["query_y"]).mean())
        env.reset(seed=seed)
        assert env.step(info["query_y"])[1] == 1
    obs, _ = env.reset(seed=1)
    with pytest.raises(ValueError, match=r"step got answers of shape \[1\], but needs labels of shape"):
        env.step(np.zeros(1, int))


def test_the_vector_env(drawn):
    env = FewShotVectorEnv(drawn(balanced=False), num_envs=4)
    seen = set()
    for seed in range(10):
        obs, info = env.reset(seed=seed)
        seen.add((info["n_outputs"], obs["support_x"].shape[1]))
        assert len(set(info["task_seed"].tolist())) == 4
        assert (obs["support_y"].amax(1) + 1 == info["n_outputs"]).all()
        again, _ = env.of_size(1).reset(options={"task_seed": info["task_seed"][2:3]})
        assert torch.equal(again["query_x"][0], obs["query_x"][2])
        scores = torch.randn(4, obs["query_x"].shape[1], info["n_outputs"])
        _, rewards, *_, after = env.step(scores)
        assert torch.allclose(rewards, (scores.argmax(-1) == after["query_y"]).float().mean(1))
    assert len(seen) > 4
    assert env.of_size(4) is env


def test_async_vector_env():
    envs = gymnasium.make_vec(
        "FewShot/Sine-v0", 2, vectorization_mode="async", vector_kwargs={"shared_memory": False}, n_shot=(2, 5)
    )
    obs, _ = envs.reset(seed=3)
    assert [len(one) for one in obs["query_x"]] == [50, 50]
    assert all(2 <= len(one) <= 5 for one in obs["support_x"])
    envs.close()
