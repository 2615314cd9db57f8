"""N-way k-shot image tasks."""

import numpy as np
import pytest
import torch

from fewshot_env.errors import FewShotError
from fewshot_env.images import ImageSampler

SETTINGS = {"n_way": 4, "n_shot": 2, "n_query": 3}


def identity(split):
    """Class number and image number, which the pixels of `small_store` tell: [B, S] each."""
    return split.x[:, :, 0, 0, 0].numpy(), split.x[:, :, 1, 0, 0].numpy()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_episodes_are_what_they_say(small_store, split):
    task = ImageSampler(small_store, split=split, **SETTINGS).sample(range(200))
    assert task.support.x.shape == (200, 8, 3, 20, 20)
    assert task.query.x.shape == (200, 12, 3, 20, 20)
    assert task.support.x.dtype == torch.uint8
    allowed = {"train": range(6), "val": range(6, 12), "test": range(12, 18)}[split]
    (sc, si), (qc, qi) = identity(task.support), identity(task.query)
    for b in range(200):
        label_of = dict(zip(sc[b].tolist(), task.support.y[b].tolist(), strict=True))
        assert set(label_of) <= set(allowed)
        assert sorted(label_of.values()) == [0, 1, 2, 3]
        assert [label_of[c] for c in qc[b].tolist()] == task.query.y[b].tolist()
        assert np.bincount(task.support.y[b]).tolist() == [2] * 4
        assert np.bincount(task.query.y[b]).tolist() == [3] * 4
        assert len(set(si[b]) | set(qi[b])) == 20  # distinct images: support and query disjoint


def test_every_class_image_and_label_is_drawn_alike(small_store):
    task = ImageSampler(small_store, **SETTINGS).sample(range(3000))
    classes, images = identity(task.support)
    for values, kinds in ((classes, 6), (images, 60)):
        counts = np.unique(values, return_counts=True)[1]
        assert len(counts) == kinds
        expected = 24_000 / kinds
        assert np.abs(counts - expected).max() < 6 * expected**0.5
    # which class gets label 0, and which label stands first, are uniform too
    zero = classes[task.support.y.numpy() == 0]
    assert np.abs(np.unique(zero, return_counts=True)[1] - 1000).max() < 6 * 2**0.5 * 1000**0.5
    assert np.abs(np.bincount(task.query.y[:, 0]) - 750).max() < 6 * 750**0.5


def test_a_task_depends_on_its_seed_alone(small_store):
    sampler = ImageSampler(small_store, **SETTINGS)
    many, one = sampler.sample([5, 6, 7]), sampler.sample([6])
    assert torch.equal(many.query.x[1], one.query.x[0])
    assert not torch.equal(many.query.x[0], many.query.x[1])


def test_minibatches_are_uniform_over_the_images_of_all_base_classes(small_store):
    sampler = ImageSampler(small_store, minibatch=50)
    assert sampler.spec.n_outputs == sampler.spec.n_base_classes == 6
    task = sampler.sample(range(200))
    assert task.support.x.shape == (200, 0, 3, 20, 20)
    classes, images = identity(task.query)
    assert (classes == task.query.y.numpy()).all()
    assert np.abs(np.unique(images, return_counts=True)[1] - 10_000 / 60).max() < 6 * (10_000 / 60) ** 0.5


def test_more_than_the_data_allow(small_store):
    with pytest.raises(FewShotError, match="has 6 classes, but n_way is 7"):
        ImageSampler(small_store, n_way=7)
    with pytest.raises(FewShotError, match=r"has 10 images, but n_shot \+ n_query needs 5 \+ 6 = 11"):
        ImageSampler(small_store, n_way=2, n_shot=5, n_query=6)
    assert ImageSampler(small_store, n_way=6, n_shot=5, n_query=5).sample([1]).query.x.shape[1] == 30


def test_fingerprint_tells_distributions_apart(small_store):
    prints = {
        ImageSampler(small_store, split=s, n_way=w, n_query=2).fingerprint for s in ("val", "test") for w in (2, 3)
    }
    assert len(prints) == 4
    assert (
        ImageSampler(small_store, n_query=2, data_dir="/somewhere").fingerprint
        == ImageSampler(small_store, n_query=2).fingerprint
    )


def test_frozen_episodes_stay_frozen(small_store):
    """The very images and labels of two tasks and a minibatch: faster code must sample the same."""
    task = ImageSampler(small_store, **SETTINGS).sample([1, 2**62])
    assert identity(task.support)[1].tolist() == [[40, 22, 25, 56, 10, 12, 57, 48], [20, 10, 40, 26, 48, 7, 5, 14]]
    assert task.support.y.tolist() == [[1, 0, 0, 3, 2, 2, 3, 1], [3, 2, 0, 3, 0, 1, 1, 2]]
    assert identity(task.query)[1].tolist() == [
        [15, 17, 42, 55, 58, 43, 11, 49, 21, 28, 53, 24],
        [6, 25, 17, 41, 1, 44, 13, 29, 11, 24, 0, 46],
    ]
    batch = ImageSampler(small_store, minibatch=6).sample([7])
    assert identity(batch.query)[1].tolist() == [[29, 27, 51, 19, 10, 27]]
