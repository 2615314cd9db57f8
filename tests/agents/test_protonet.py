"""ProtoNet is what its paper says."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.check import check_agent
from agents.protonet import ProtoNet, ProtoNetConfig
from fewshot_env.episode import Episode, TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.sine import SineSampler
from fewshot_env.worlds.sampler import Glyphs

torch.set_num_threads(1)
SMALL = {"n_way": 3, "n_shot": 2, "n_query": 2}


@pytest.fixture
def float64() -> Iterator[None]:
    """Float64 as the default type, for the proof."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def sample(sampler: Glyphs, seeds: list[int]) -> Episode:
    """Tasks of these seeds on the CPU, in the default type."""
    task = sampler.sample(seeds)
    task = Episode(task.support.to("cpu"), task.query.to("cpu"))
    for split in (task.support, task.query):
        object.__setattr__(split, "x", split.x.to(torch.get_default_dtype()))
    return task


def plain_loss(weights: Tensor, task: Episode, b: int, n_way: int) -> Tensor:
    """The loss of one task as in the paper, with torch.nn.functional and a loop over classes."""

    def embed(x: Tensor) -> Tensor:
        position, channels = 0, 3
        for _ in range(4):
            sizes = [8 * channels * 9, 8, 8, 8]
            kernel, bias, scale, shift = weights[position : position + sum(sizes)].split(sizes)
            x = F.conv2d(x, kernel.view(8, channels, 3, 3), bias, padding=1)
            x = F.max_pool2d(F.relu(F.batch_norm(x, None, None, scale, shift, training=True)), 2)
            position, channels = position + sum(sizes), 8
        return x.flatten(1)

    z, labels = embed(task.support.x[b]), task.support.labels[b]
    prototypes = [z[labels == n].mean(0) for n in range(n_way)]
    distances = torch.stack([((embed(task.query.x[b]) - c) ** 2).sum(1) for c in prototypes], 1)
    return F.cross_entropy(-distances, task.query.labels[b])


@pytest.mark.usefixtures("float64")
def test_loss_and_gradient_are_those_of_a_plain_loop() -> None:
    """In float64, over two tasks whose classes have 2 support images each."""
    sampler = Glyphs(**SMALL)
    agent = ProtoNet(sampler.spec, ProtoNetConfig(filters=8)).double().train()
    task = sample(sampler, [1, 2])
    loss = sampler.spec.loss(agent.predict(agent.adapt(task.support), task.query.x), task.query.labels)
    plain = torch.stack([plain_loss(agent.encoder.weights[0], task, b, 3) for b in range(2)])
    torch.testing.assert_close(loss, plain, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(loss.sum(), agent.encoder.weights)
    (expected,) = torch.autograd.grad(plain.sum(), agent.encoder.weights)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("bn", ["transductive", "support", "running"])
def test_it_keeps_the_contract(bn: str) -> None:
    """The promises that every agent makes, with each kind of batch normalisation."""
    train, test = Glyphs(**SMALL), Glyphs(split="test", **SMALL)
    config = ProtoNetConfig.model_validate({"filters": 8, "bn": bn, "outer_lr": 0.01})
    check_agent(lambda: ProtoNet(train.spec, config), sample(train, [1, 2, 3]), sample(test, [4, 5]), steps=10)


def test_regression_is_refused() -> None:
    """With the reason, and what to use instead."""
    with pytest.raises(FewShotError, match="regression has no classes; try maml or turtle"):
        ProtoNet(SineSampler().spec, ProtoNetConfig())


def test_vectors_are_embedded_by_the_mlp() -> None:
    """Classification of [4] inputs."""
    spec = TaskSpec("classification", (4,), 2, 2, (-1, 1), (0, 1))
    agent = ProtoNet(spec, ProtoNetConfig(hidden=(6,))).eval()
    assert agent.encoder.weights.shape == (1, 4 * 6 + 6)
