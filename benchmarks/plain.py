"""The plain loops that `benchmarks/peers.py` times: MAML, TURTLE and the LSTM written directly with torch.autograd.

Task by task, with create_graph for second order, vectorized over the weights. They share no code with the agents and
take only their settings and initial meta-parameters. P = weights, H = hidden units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.gradient_based import GradientBased
from fewshot_env.episode import Episode

Items = tuple[Tensor, Tensor]
Shapes = list[tuple[int, ...]]


class TaskLoop(ABC):
    """An outer step task by task: backward of each query loss, then Adam on the sum."""

    def __init__(self, agent: GradientBased, parameters: Iterable[Tensor]) -> None:
        self.config, self.parameters = agent.config, list(parameters)
        self.loss = F.mse_loss if agent.spec.kind == "regression" else F.cross_entropy
        self.optimizer = torch.optim.Adam(self.parameters, lr=agent.config.outer_lr, fused=True)

    @abstractmethod
    def query_loss(self, support: Items, query: Items) -> Tensor:
        """Adapt to one task's support, x [S, *in_shape] and y [S] or [S, 1]; the loss on its query."""

    def step(self, episode: Episode) -> None:
        """One outer step on B tasks."""
        self.optimizer.zero_grad(set_to_none=True)
        support, query = episode.support, episode.query
        for sx, sy, qx, qy in zip(support.x, support.labels, query.x, query.labels, strict=True):
            self.query_loss((sx, sy), (qx, qy)).backward()
        if self.config.outer_clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.outer_clip_norm)
        self.optimizer.step()

    def gradient(self) -> Tensor:
        """The last meta-gradient as one vector, in the order of the agent's parameters."""
        return torch.cat([p.grad.flatten() for p in self.parameters])


class BaseLearner:
    """The loss of the MLP or Conv4 as a function of a list of weights."""

    def __init__(self, agent: GradientBased) -> None:
        self.shapes = list((agent.net.body.shapes | agent.net.head.shapes).values())
        self.regression = agent.spec.kind == "regression"

    def split(self, theta: Tensor) -> list[Tensor]:
        """All weights [P] as a list."""
        return split(theta, self.shapes)

    def loss(self, weights: list[Tensor], items: Items) -> Tensor:
        """Mean loss on items."""
        x, y = items
        return F.mse_loss(mlp(weights, x), y) if self.regression else F.cross_entropy(conv4(weights, x), y)


def split(vector: Tensor, shapes: Shapes) -> list[Tensor]:
    """Consecutive parts of a vector."""
    parts = vector.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def first_parameters(agent: GradientBased, shapes: Shapes) -> list[Tensor]:
    """Trainable copies of the agent's parameters, in order, split into these shapes."""
    vector = torch.cat([p.detach().flatten() for p in agent.parameters()])
    return [part.clone().requires_grad_() for part in split(vector, shapes)]


def mlp(weights: list[Tensor], x: Tensor) -> Tensor:
    """Linear layers with ReLUs between: x [S, d] -> [S, 1]."""
    *hidden, weight, bias = weights
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = F.relu(F.linear(x, w, b))
    return F.linear(x, weight, bias)


def conv4(weights: list[Tensor], x: Tensor) -> Tensor:
    """Four blocks and a linear layer: x [S, 3, 84, 84] -> logits [S, N]."""
    for i in range(0, 16, 4):
        kernel, bias, scale, shift = weights[i : i + 4]
        x = F.batch_norm(F.conv2d(x, kernel, bias), None, None, scale, shift, training=True)
        x = F.max_pool2d(F.relu(x), 2)
    return F.linear(x.flatten(1), *weights[16:])


class PlainMAML(TaskLoop):
    """Gradient descent, one tensor per weight."""

    def __init__(self, agent: GradientBased) -> None:
        self.learner = BaseLearner(agent)
        super().__init__(agent, first_parameters(agent, self.learner.shapes))

    def query_loss(self, support: Items, query: Items) -> Tensor:
        """MAML (Finn et al. 2017)."""
        weights = self.parameters
        for _ in range(self.config.inner_steps):
            loss = self.learner.loss(weights, support)
            grads = torch.autograd.grad(loss, weights, create_graph=not self.config.first_order)
            weights = [w - self.config.inner_lr * g for w, g in zip(weights, grads, strict=True)]
        return self.learner.loss(weights, query)


class LearnedRule(TaskLoop):
    """A learned update of all weights [P]; the initialization is the first of the meta-parameters."""

    def __init__(self, agent: GradientBased) -> None:
        self.learner = BaseLearner(agent)
        n_weights = agent.net.n_params
        super().__init__(agent, first_parameters(agent, [(n_weights,), *self.shapes(agent.config, n_weights)]))

    @staticmethod
    @abstractmethod
    def shapes(config: Any, n_weights: int) -> Shapes:
        """The rule's own parameters."""

    @abstractmethod
    def update(self, step: int, theta: Tensor, g: Tensor, loss: Tensor, state: Any) -> tuple[Tensor, Any]:
        """New weights [P] and state from weights and gradients [P] and the loss; no state at first."""

    def query_loss(self, support: Items, query: Items) -> Tensor:
        """Algorithm 1, lines 6 to 9, with the agent's clipping."""
        steps, state = self.config.inner_steps, None
        inner_clip, task_clip = self.config.inner_clip or math.inf, self.config.task_clip or math.inf
        theta = self.parameters[0].clone()
        theta.register_hook(lambda g: g.clamp(-task_clip, task_clip))
        for step in range(steps):
            point = theta.detach().requires_grad_() if self.config.first_order else theta
            loss = self.learner.loss(self.learner.split(point), support)
            (g,) = torch.autograd.grad(loss, point, create_graph=not self.config.first_order)
            theta, state = self.update(step, theta, g.clamp(-inner_clip, inner_clip), loss.detach(), state)
        return self.learner.loss(self.learner.split(theta), query)


class PlainTurtle(LearnedRule):
    """TURTLE with its default inputs: gradient, moving average of gradients, step number."""

    @staticmethod
    def shapes(config: Any, n_weights: int) -> Shapes:
        """A learning rate per weight, then weights and biases of the meta-network."""
        sizes = [3, *[config.hidden_units] * config.hidden_layers, 1]
        layers = [[(out, fan_in), (out,)] for fan_in, out in pairwise(sizes)]
        return [(n_weights,), *[shape for layer in layers for shape in layer]]

    def update(self, step: int, theta: Tensor, g: Tensor, loss: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Eq. 7, the meta-network on rows [P, 3]."""
        _, rates, *network = self.parameters
        average = g if step == 0 else self.config.beta * state + (1 - self.config.beta) * g
        rows = torch.stack([g, average, torch.full_like(g, step)], 1)
        return theta + rates * mlp(network, rows).squeeze(1), average


class PlainLSTM(LearnedRule):
    """The meta-learner LSTM with its default inputs: preprocessed loss and gradient."""

    @staticmethod
    def shapes(config: Any, n_weights: int) -> Shapes:
        """Weights and biases of the first layer, then of both gates, whose bias comes last."""
        units = config.hidden_units
        return [(4 * units, 4 + units), (4 * units,), (units + 3,), (units + 3,)]

    def update(self, step: int, theta: Tensor, g: Tensor, loss: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Eq. 3, the first layer on rows [P, 4 + H]."""
        _, weight, bias, w_forget, w_rate = self.parameters
        zeros = torch.zeros_like(theta)
        rows = theta.new_zeros(len(theta), self.config.hidden_units)
        hidden, cell, forget, rate = state or (rows, rows, zeros, zeros)
        seen = torch.cat([preprocess(loss).expand(len(g), 2), preprocess(g), hidden], 1)
        enter, keep, candidate, leave = F.linear(seen, weight, bias).chunk(4, 1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        forget = torch.cat([hidden, torch.stack([theta, forget], 1)], 1)
        forget = torch.sigmoid(forget @ w_forget[:-1] + w_forget[-1])
        rate = torch.cat([hidden, torch.stack([theta, rate], 1)], 1)
        rate = torch.sigmoid(rate @ w_rate[:-1] + w_rate[-1])
        return forget * theta - rate * g, (hidden, cell, forget, rate)


def preprocess(x: Tensor, p: float = 10.0) -> Tensor:
    """Andrychowicz et al. (2016), Appendix A: [...] -> [..., 2]."""
    large = x.abs() >= math.exp(-p)
    size = torch.where(large, torch.log(x.abs() + 1e-8) / p, -torch.ones_like(x))
    return torch.stack([size, torch.where(large, x.sign(), math.exp(p) * x)], -1)
