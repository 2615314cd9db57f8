"""Small tasks, agents and an independent plain loop for the proofs."""

import torch
import torch.nn.functional as F

import agents
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.images import ImageSampler
from fewshot_env.sine import SineSampler

SINE = TaskSpec("regression", (1,), 1, 1, (-5, 5), (-10, 10))
IMAGES = TaskSpec("classification", (2, 18, 18), 3, 5, (0, 1), (0, 2))
SPECS = {"mlp": SINE, "conv": IMAGES}
CLASSIFIERS = ("protonet", "simpleshot", "matching", "relation", "metaoptnet", "leo", "transductive-finetuning")
"""Agents that are for classes only."""
EPISODES = {"n_way": 3, "n_shot": 2, "n_query": 3}
SMALL = {"mlp": {"hidden": (6, 5)}, "conv": {"filters": 3, "padding": 1}}


def batch_of_tasks(spec, tasks=2, support=6, query=9, seed=1):
    g = torch.Generator().manual_seed(seed)

    def split(n):
        dtype = torch.get_default_dtype()
        x = torch.rand(tasks, n, *spec.in_shape, generator=g, dtype=dtype)
        if spec.kind == "regression":
            x = 4 * x - 2
            return Split(x, torch.sin(x * (1 + torch.arange(tasks).view(-1, 1, 1))))
        y = torch.arange(n).remainder(spec.n_outputs).expand(tasks, n)
        return Split(x + 0.1 * y.view(tasks, n, 1, 1, 1), y.clone())

    return Episode(split(support), split(query))


def make_agent(name, kind, seed=0, **settings):
    torch.manual_seed(seed)
    return agents.make(name, SPECS[kind], **(SMALL[kind] | settings)).to(torch.get_default_dtype()).train()


def plain_forward(spec, theta, x, behind=lambda layer, z: z):
    """The base learner of one task, written with torch.nn.functional: theta [P], x [S, ...] -> [S, N].

    behind(layer, z) is applied to the outputs of every layer, before normalization and ReLU.
    """
    position = [0]

    def take(*shape):
        n = torch.Size(shape).numel()
        position[0] += n
        return theta[position[0] - n : position[0]].view(shape)

    if spec.kind == "regression":
        h = F.relu(behind(0, F.linear(x, take(6, 1), take(6))))
        h = F.relu(behind(1, F.linear(h, take(5, 6), take(5))))
        return behind(2, F.linear(h, take(1, 5), take(1)))
    channels = 2
    for layer in range(4):
        h = behind(layer, F.conv2d(x, take(3, channels, 3, 3), take(3), padding=1))
        mean = h.mean((0, 2, 3), keepdim=True)
        variance = ((h - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = take(3), take(3)
        h = (h - mean) / (variance + 1e-5) ** 0.5 * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
        x = F.max_pool2d(F.relu(h), 2)
        channels = 3
    return behind(4, F.linear(x.flatten(1), take(3, 3), take(3)))


def plain_loss(spec, theta, split, task):
    outputs = plain_forward(spec, theta, split.x[task])
    return F.mse_loss(outputs, split.y[task]) if spec.kind == "regression" else F.cross_entropy(outputs, split.y[task])


def plain_meta_loss(agent, episode, update, steps, first_order, clip):
    """Algorithm 1 task by task with create_graph; update(t, theta, g, loss, memory) -> theta."""
    total = 0
    for task in range(episode.support.x.shape[0]):
        theta, memory = agent.initialization[0] * 1.0, {}
        for t in range(steps):
            if first_order:
                point = theta.detach().requires_grad_()
                loss = plain_loss(agent.spec, point, episode.support, task)
                (g,) = torch.autograd.grad(loss, point)
            else:
                loss = plain_loss(agent.spec, theta, episode.support, task)
                (g,) = torch.autograd.grad(loss, theta, create_graph=True)
            if clip:
                g = torch.clamp(g, -clip, clip)
            theta = update(t, theta, g, loss.detach(), memory)
        total = total + plain_loss(agent.spec, theta, episode.query, task)
    return total


def agent_meta_loss(agent, episode):
    predictions = agent.predict(agent.adapt(episode.support), episode.query.x)
    return agent.spec.loss(predictions, episode.query.y).sum()


def gradients(loss, agent):
    parameters = dict(agent.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(parameters.items(), found, strict=True)}


def relative_error(a, b):
    """Largest difference of two gradient dictionaries, relative to the whole."""
    a, b = (torch.cat([g[n].flatten() for n in sorted(g)]) for g in (a, b))
    return float((a - b).norm() / b.norm())


def sample_on_cpu(sampler, seeds):
    task = sampler.sample(seeds)
    return Episode(task.support.to("cpu"), task.query.to("cpu"))


def tasks_for(kind, minibatch, small_store):
    """A training batch and a test batch."""
    if kind == "sine":
        train = SineSampler(minibatch=minibatch) if minibatch else SineSampler()
        return (
            SineSampler().spec,
            sample_on_cpu(train, [1] if minibatch else [1, 2, 3]),
            sample_on_cpu(SineSampler(split="test"), [4, 5]),
        )
    episodes = ImageSampler(small_store, **EPISODES)
    train = ImageSampler(small_store, minibatch=minibatch) if minibatch else episodes
    return (
        episodes.spec,
        sample_on_cpu(train, [1] if minibatch else [1, 2, 3]),
        sample_on_cpu(ImageSampler(small_store, split="test", **EPISODES), [4, 5]),
    )


def joined(tasks):
    """Several batches as one, in their order."""

    def whole(splits):
        return Split(torch.cat([s.x for s in splits]), torch.cat([s.y for s in splits]))

    return Episode(whole([t.support for t in tasks]), whole([t.query for t in tasks]))
