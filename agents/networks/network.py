"""Network: a base learner f_theta as a function of flat weights, made of a body (features) and a head (predictions).

A network keeps no weights. The weights of B tasks are one tensor [B, P]; every update rule is then plain arithmetic on
[B, P]. B = tasks, S = items, F = features, P = weights, M = normalization statistics.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from agents.networks.flat import Shapes, matrices, size_of
from agents.networks.heads import Head
from agents.networks.objective import DoubleBackwardObjective, Objective
from fewshot_env.episode import Split, TaskSpec


class Body(ABC):
    """What gives features [B, S, F] from items [B, S, *in_shape]: MLPBody, Conv4Body, ModuleBody, or your own.

    A subclass that changes `__call__` gets the general objective; override `objective` and `predict` to supply faster
    ones.
    """

    shapes: Shapes
    """Its weights, in the order in which they lie in the flat vector."""
    n_features: int
    n_stats: int = 0
    """Normalization statistics of a task."""
    maps: tuple[int, int, int] | None = None
    """Channels, height and width of the features, where these are maps."""
    affine: tuple[tuple[str, str], ...] = ()
    """Names of the scale and the shift of every batch normalization that has them."""
    stackable: bool = False
    """Whether tasks of several runs are worth computing at once (agents.engine.stack)."""

    @abstractmethod
    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""

    @abstractmethod
    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        """params [B, P_body], x [B, S, *in_shape] -> features [B, S, F].

        stats [B, M]: statistics to normalize with; None: those of x, which are appended to `seen`, if given, as parts
        [B, m] whose sizes sum to M.
        """

    def constants(self) -> dict[str, Tensor]:
        """What is neither learned nor a statistic, but decides what is computed: saved with the agent."""
        return {}

    def set_constants(self, values: Mapping[str, Tensor]) -> None:
        """Replace the constants, by name."""
        return

    def matrices(self) -> dict[str, str | None]:
        """Linear and convolution layers, as agents.networks.flat.matrices gives them."""
        return matrices(self.shapes)

    def batched(self, device: torch.device) -> bool:
        """Whether B tasks are best computed at once."""
        return True

    def initial_stats(self) -> Tensor:
        """Normalization statistics [M] before any data."""
        return torch.zeros(0)

    def objective(self, net: Network, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
        """The fastest objective for a network with this body and TaskSpec's own loss."""
        return Objective(net, spec, support, stats)

    def predict(self, net: Network, params: Tensor, x: Tensor) -> Tensor:
        """Predictions [B, S, N] under batch statistics of x; they need to be differentiable once, in params, only."""
        return net(params, x)


class Network:
    """A body and a head over one flat weight vector: theta = [body, head]."""

    def __init__(self, body: Body, head: Head, at_once: int | None = None) -> None:
        """at_once: tasks computed at once; None: as many as is fastest."""
        self.body, self.head, self.at_once = body, head, at_once
        self.shapes: Shapes = body.shapes | head.shapes
        self.n_body = size_of(body.shapes)
        self.n_params = self.n_body + size_of(head.shapes)
        self.n_stats = body.n_stats

    def init(self, generator: torch.Generator | None = None) -> Tensor:
        """Initial weights [P]."""
        parts: list[Body | Head] = [self.body, self.head]
        return torch.cat([p.init(n, s, generator).flatten() for p in parts for n, s in p.shapes.items()])

    def matrices(self) -> dict[str, str | None]:
        """Linear and convolution layers, head included: the name of each weight [out, in, ...], and of its bias."""
        return self.body.matrices() | matrices(self.head.shapes)

    @property
    def layers(self) -> dict[str, slice]:
        """Where each layer's weights lie in the flat vector."""
        where: dict[str, slice] = {}
        start = 0
        for name, shape in self.shapes.items():
            stop, layer = start + math.prod(shape), name.rpartition(".")[0]
            where[layer] = slice(where[layer].start if layer in where else start, stop)
            start = stop
        return where

    def chunks(self, params: Tensor) -> list[slice]:
        """The tasks of params [B, P] in the portions in which they are best computed."""
        tasks = params.shape[0]
        step = self.at_once or (tasks if self.body.batched(params.device) else 1)
        return [slice(b, b + step) for b in range(0, tasks, step)]

    def features(self, params: Tensor, x: Tensor, stats: Tensor | None = None) -> Tensor:
        """params [B, P] (or the body's part), x [B, S, *in_shape] -> [B, S, F]."""
        body = params[:, : self.n_body]
        return torch.cat(
            [self.body(body[t], x[t], None if stats is None else stats[t], None) for t in self.chunks(params)]
        )

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None = None) -> Tensor:
        """Predictions [B, S, N] of weights [B, P] on x [B, S, *in_shape].

        stats [B, M] are the statistics that batch normalization uses; None: those of x itself.
        """
        return self.head(params[:, self.n_body :], self.features(params, x, stats))

    def features_and_statistics(self, params: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, S, F], and the batch statistics [B, M] of x that they used."""
        features, stats = [], []
        for t in self.chunks(params):
            seen: list[Tensor] = []
            features.append(self.body(params[t, : self.n_body], x[t], None, seen))
            stats.append(torch.cat(seen, 1) if seen else x.new_zeros(features[-1].shape[0], 0))
        return torch.cat(features), torch.cat(stats)

    def objective(self, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
        """The support loss of B tasks with its derivatives.

        Written out where the body offers that. Where `spec` defines a loss of its own, Hessian-vector products go
        backward twice: not every loss of PyTorch has forward derivatives (huber_loss has none).
        """
        if type(spec).loss is not TaskSpec.loss:
            return DoubleBackwardObjective(self, spec, support, stats)
        return self.body.objective(self, spec, support, stats)

    def predict(self, params: Tensor, x: Tensor) -> Tensor:
        """Predictions [B, S, N] under batch statistics of x, as a call gives them, but differentiable once only."""
        return self.body.predict(self, params, x)


def is_unchanged(part: object, kind: type) -> bool:
    """Whether `part` computes what `kind` does: derivatives written out for `kind` then hold for it."""
    return isinstance(part, kind) and type(part).__call__ is kind.__call__
