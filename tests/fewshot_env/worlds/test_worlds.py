"""The worlds that are drawn in code."""

import numpy as np
import pytest
import torch

from fewshot_env.errors import FewShotError
from fewshot_env.pair import EnvPair
from fewshot_env.sampler import sampler_class
from fewshot_env.worlds import glyphs, textures
from fewshot_env.worlds.canvas import colour
from fewshot_env.worlds.sampler import CLASSES, IMAGES, Glyphs, SyntheticImages, Textures

WORLDS = {"glyphs": Glyphs, "textures": Textures}
DRAW = {"glyphs": glyphs.draw, "textures": textures.draw}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("split", CLASSES)
def test_tasks_are_what_they_say(name, split):
    sampler = WORLDS[name](split=split, n_way=4, n_shot=2, n_query=3)
    assert (sampler.spec.in_shape, sampler.spec.n_outputs, sampler.spec.n_base_classes) == ((3, 28, 28), 4, 200)
    task = sampler.sample([1, 2, 1])
    assert task.support.x.shape == (3, 8, 3, 28, 28)
    assert task.query.x.dtype == torch.uint8
    assert torch.equal(task.query.x[0], task.query.x[2])
    assert not torch.equal(task.query.x[0], task.query.x[1])
    assert [len(sampler.store.of_split(s)) for s in CLASSES] == [200, 50, 50]
    batch = WORLDS[name](minibatch=16).sample([3]).query
    assert batch.x.shape == (1, 16, 3, 28, 28)
    assert batch.y.max() >= 50


FROZEN = {
    "glyphs": ([94, 136, 208, 13, 29], [131.51, 161.41, 54.44, 29.22, 50.53]),
    "textures": ([45, 20, 101, 147, 31], [92.27, 109.91, 115.14, 91.58, 76.42]),
}


@pytest.mark.parametrize("name", WORLDS)
def test_frozen_episodes_stay_frozen(name):
    """Labels, and mean and single pixels, of a test task: another drawing would be another world, a -v1."""
    task = WORLDS[name](split="test").sample([1])
    pixels, means = FROZEN[name]
    assert task.support.y.tolist() == [[2, 1, 0, 3, 4]]
    assert task.query.y[0, :10].tolist() == [0, 1, 0, 3, 3, 3, 3, 3, 2, 1]
    assert task.support.x[0, :, 0, 14, 14].int().tolist() == pytest.approx(
        pixels, abs=1
    )  # numpy's last bits may differ
    assert task.support.x[0].float().mean((1, 2, 3)).tolist() == pytest.approx(means, abs=0.1)


@pytest.mark.parametrize("name", WORLDS)
def test_an_image_depends_on_its_class_and_number_alone(name):
    one, other = SyntheticImages(name, DRAW[name], 28), SyntheticImages(name, DRAW[name], 28)
    one.draw_missing(np.array([[5, 7 * IMAGES], [2 * IMAGES, 6]]))
    other.draw_missing(np.array([[2 * IMAGES + 3]]))
    other.draw_missing(np.array([[7 * IMAGES + 9, 0]]))
    for k in (0, 2, 7):
        part = slice(k * IMAGES, (k + 1) * IMAGES)
        assert (one.store.images[part] == other.store.images[part]).all()
    assert np.flatnonzero(one._is_drawn).tolist() == [0, 2, 7]
    keys = np.array([11, 12, 13], np.uint64)
    assert (DRAW[name](4, keys, 28)[1:2] == DRAW[name](4, keys[1:2], 28)).all()


def images_of(name, classes):
    """Images [classes, IMAGES, pixels] in [0, 1]."""
    world = SyntheticImages(name, DRAW[name], 28)
    world.draw_missing(np.arange(classes * IMAGES))
    return world.store.images[: classes * IMAGES].reshape(classes, IMAGES, -1, 3) / 255


@pytest.mark.parametrize("name", WORLDS)
def test_classes_differ_and_vary(name):
    images = images_of(name, 60)
    flat = images.reshape(60 * IMAGES, -1).round(3)
    assert len(np.unique(flat, axis=0)) == 60 * IMAGES
    assert images.std(1).mean() > 0.1  # a pixel of a class is anything but settled
    assert 0.3 < images.mean() < 0.6
    contrast = images.std(2).mean(-1)
    assert (contrast > 0.03).all()  # no image is blank


def accuracy_by_mean_colour(name):
    """1-shot accuracy over 5 of 60 classes of the nearest mean colour."""
    mean = images_of(name, 60).mean(2)  # [60, IMAGES, 3]
    of_five = mean.reshape(12, 5, IMAGES, 3)
    distance = np.linalg.norm(of_five[:, None, :, :1] - of_five[:, :, None, 1:], axis=-1)  # [12, support, query, 39]
    return float((distance.argmin(1) == np.arange(5)[:, None]).mean())


def test_colour_tells_nothing_of_a_glyph_and_something_of_a_texture():
    assert accuracy_by_mean_colour("glyphs") == pytest.approx(0.2, abs=0.04)
    assert 0.4 < accuracy_by_mean_colour("textures") < 0.8


def test_strokes_are_where_they_should_be():
    """A stroke from (-0.5, 0) to (0.5, 0), 0.25 wide, covers 1 x 0.25 and two half discs."""
    piece = np.array([[[[-0.5, 0.0], [0.5, 0.0]]]])
    cover = glyphs.stroke_coverage(piece, np.array([0.25]), 64)[0]
    assert cover.sum() * (2 / 64) ** 2 == pytest.approx(0.25 + np.pi * 0.125**2, rel=0.02)
    assert cover[32, 16:48].min() == 1
    assert cover[20].max() == cover[:, 8].max() == 0
    bent = glyphs.bezier_pieces(np.array([[[[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]]]))[0]
    assert bent[0, 0].tolist() == [0, 0]
    assert bent[-1, 1].tolist() == [2, 0]
    t = 0.4
    assert bent[2, 0].tolist() == pytest.approx([2 * t * (1 - t) + 2 * t * t, 2 * t * (1 - t)])


def test_colours():
    hue, one = np.array([0, 1 / 3, 2 / 3, 1.5]), np.ones(4)
    assert colour(hue, one, one) == pytest.approx(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]]))
    assert colour(hue, 0 * one, 0.5 * one) == pytest.approx(0.5 * np.ones((4, 3)))


def test_pairs_fit_each_other_and_at_84_the_data_sets(data_dir):
    def spec(name, **settings):
        return sampler_class(EnvPair.parse(name).source.sampler)(n_query=2, **settings).spec

    EnvPair.parse("glyphs->textures").check(spec("glyphs"), spec("textures"))
    mini = spec("mini", data_dir=str(data_dir))
    EnvPair.parse("glyphs->mini").check(spec("glyphs", size=84), mini)
    with pytest.raises(FewShotError, match=r"inputs 3x28x28 with 5 outputs, mini has classification of inputs 3x84x84"):
        EnvPair.parse("glyphs->mini").check(spec("glyphs"), mini)


def test_more_than_a_class_holds():
    with pytest.raises(FewShotError, match=r"n_shot \+ n_query needs 30 \+ 16 = 46"):
        Glyphs(n_shot=30)


def test_fingerprints_tell_worlds_and_sizes_apart():
    prints = {w(split=s, size=z).fingerprint for w in (Glyphs, Textures) for s in ("val", "test") for z in (28, 32)}
    assert len(prints) == 8
    assert Glyphs(data_dir="/somewhere").fingerprint == Glyphs().fingerprint
