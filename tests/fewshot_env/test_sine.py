"""The sine family is what it says."""

import math

import numpy as np
import pytest
import torch

from fewshot_env.errors import SettingError
from fewshot_env.rng import task_seeds
from fewshot_env.sine import SineSampler


def test_points_lie_on_one_sine_per_task_and_cover_the_ranges():
    task = SineSampler(n_shot=5, n_query=50).sample(range(2000))
    x = torch.cat([task.support.x, task.query.x], 1)[..., 0].double()
    y = torch.cat([task.support.y, task.query.y], 1)[..., 0].double()
    # y = a sin x + b cos x with a = A cos(phase), b = A sin(phase): least squares must fit exactly
    design = torch.stack([x.sin(), x.cos()], -1)
    fit = torch.linalg.lstsq(design, y.unsqueeze(-1)).solution[..., 0]
    assert (design @ fit.unsqueeze(-1) - y.unsqueeze(-1)).abs().max() < 1e-5
    amplitude, phase = fit.norm(dim=1), torch.atan2(fit[:, 1], fit[:, 0])
    for value, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, math.pi), (x.flatten(), -5.0, 5.0)):
        assert value.min() >= low - 1e-4
        assert value.max() <= high + 1e-4
        n, width = len(value), high - low
        assert abs(value.mean() - (low + high) / 2) < 5 * width / math.sqrt(12 * n)
        assert abs(value.std() - width / math.sqrt(12)) < 0.03 * width
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 5 / math.sqrt(2000)


def test_harmonics_follow_the_formula():
    """Against cosines and sines written out with math, from A, phase and the heights of the harmonics."""
    settings = {"amplitude": (2.0, 2.0), "phase": (0.7, 0.7), "n_query": 30}
    task = SineSampler(harmonics=(0.5, 0.0, -0.25), **settings).sample([5, 6])
    for x, y in zip(task.query.x.flatten().tolist(), task.query.y.flatten().tolist(), strict=True):
        u = x + 0.7
        double, four = 2 * math.sin(u) * math.cos(u), 4 * math.sin(u) * math.cos(u) * math.cos(2 * u)
        assert y == pytest.approx(2 * (math.sin(u) + 0.5 * double - 0.25 * four), abs=2e-5)
    plain = SineSampler(**settings)
    assert torch.equal(plain.sample([5, 6]).query.x, task.query.x)
    assert SineSampler(harmonics=(0.5, -0.25)).spec.y_range == (-17.5, 17.5)
    assert SineSampler().spec.y_range == (-10, 10)


def test_amplitudes_phases_and_x_are_uniform_over_any_ranges():
    """The empirical distribution is nowhere 1.95 / sqrt(n) off the line (Kolmogorov-Smirnov at 0.1 %)."""
    ranges = {"amplitude": (1.0, 3.0), "phase": (0.5, 2.0), "x_range": (-2.0, 4.0)}
    task = SineSampler(n_shot=5, n_query=5, **ranges).sample(range(3000))
    x = torch.cat([task.support.x, task.query.x], 1)[..., 0].double()
    y = torch.cat([task.support.y, task.query.y], 1)[..., 0].double()
    fit = torch.linalg.lstsq(torch.stack([x.sin(), x.cos()], -1), y.unsqueeze(-1)).solution[..., 0]
    found = {"amplitude": fit.norm(dim=1), "phase": torch.atan2(fit[:, 1], fit[:, 0]), "x_range": x.flatten()}
    for name, (low, high) in ranges.items():
        place = ((found[name] - low) / (high - low)).sort().values
        n = len(place)
        assert (place - (torch.arange(n) + 0.5) / n).abs().max() < 1.95 / math.sqrt(n), name


def test_frozen_episodes_stay_frozen():
    """The support of the first published test task (docs/results/sine.md), and the plain family's name."""
    task = SineSampler(split="test").sample(task_seeds(2022, "test", 0, 1))
    x, y = [4.23987, 4.49252, -4.52924, -3.64805, -0.67835], [0.33183, 0.44631, -0.56796, -0.51113, 0.55742]
    assert task.support.x.flatten().tolist() == pytest.approx(x, abs=1e-5)
    assert task.support.y.flatten().tolist() == pytest.approx(y, abs=1e-5)
    assert "harmonics" not in SineSampler().fingerprint
    assert SineSampler(harmonics=(0.5,)).fingerprint != SineSampler(harmonics=(0.4,)).fingerprint


def test_noise_falls_on_the_support_alone():
    clean, noisy = SineSampler(n_shot=400).sample([3, 4]), SineSampler(n_shot=400, noise=0.3).sample([3, 4])
    assert torch.equal(clean.query.y, noisy.query.y)
    assert torch.equal(clean.support.x, noisy.support.x)
    error = noisy.support.y - clean.support.y
    assert abs(error.mean()) < 5 * 0.3 / math.sqrt(800)
    assert abs(error.std() - 0.3) < 0.05


def test_shapes_and_equal_seeds():
    sampler = SineSampler(n_shot=3, n_query=7)
    task = sampler.sample([11, 12, 11])
    assert task.support.x.shape == (3, 3, 1)
    assert task.query.y.shape == (3, 7, 1)
    assert task.query.y.dtype == torch.float32
    assert torch.equal(task.query.y[0], task.query.y[2])
    assert not torch.equal(task.query.y[0], task.query.y[1])
    assert torch.equal(sampler.sample([12]).query.x[0], task.query.x[1])


def test_minibatch_pools_points_of_many_tasks():
    task = SineSampler(minibatch=64).sample([1])
    assert task.support.x.shape == (1, 0, 1)
    assert task.query.x.shape == (1, 64, 1)
    x, y = task.query.x[0, :, 0], task.query.y[0, :, 0]
    design = torch.stack([x.sin(), x.cos()], -1)
    fit = torch.linalg.lstsq(design, y.unsqueeze(-1)).solution
    assert (design @ fit - y.unsqueeze(-1)).abs().mean() > 0.3  # no single sine fits


@pytest.mark.parametrize("wrong", [{"n_shot": 0}, {"noise": -1}, {"amplitude": (2, 1)}, {"split": "tset"}, {"ways": 5}])
def test_wrong_settings(wrong):
    with pytest.raises(SettingError):
        SineSampler(**wrong)
