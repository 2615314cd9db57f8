"""The sine family is what it says."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

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
    with pytest.raises(ValidationError):
        SineSampler(**wrong)
