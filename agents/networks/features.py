"""Networks of which adaptation changes the head alone: an encoder gives features once, and the head works on these."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.networks.feature_cache import FeatureCache
from agents.networks.flat import Shapes
from agents.networks.heads import NoHead
from agents.networks.network import Body, Network
from agents.networks.objective import DoubleBackwardObjective, Objective
from fewshot_env.episode import Split, TaskSpec

AT_ONCE = 32
"""Items whose features a frozen encoder computes at once."""


class FeatureBody(Body):
    """The body of a head alone: its items [S, F] are features already."""

    shapes: Shapes = {}
    stackable = True

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """It has no weights."""
        raise KeyError(name)

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        """The features x [B, S, F] as they are."""
        return x

    def objective(self, net: Network, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
        """Hessian-vector products go backward twice: one layer is quick that way."""
        return DoubleBackwardObjective(net, spec, support, stats)


class Encoder(nn.Module):
    """A body with weights of its own, which all tasks share and no task changes.

    Frozen, its weights are no parameters, and what does not depend on other items (statistics given, or none needed) is
    computed once for each item and kept (agents.networks.feature_cache).

    Args:
        body: gives the features.
        frozen: whether the weights stay as they are; else they are learned in meta-training.
    """

    weights: Tensor  # [runs, P_body]

    def __init__(self, body: Body, frozen: bool) -> None:
        super().__init__()
        self.body = body
        parts = [body.init(n, s, None).flatten() for n, s in body.shapes.items()]
        first = torch.cat(parts) if parts else torch.zeros(0)
        if frozen:
            self.register_buffer("weights", first.unsqueeze(0))
        else:
            self.weights = nn.Parameter(first.unsqueeze(0))
        self._net = Network(body, NoHead())
        self._cache = FeatureCache()
        self._cached_for: list[tuple[Tensor, int]] = []
        """What the cached features depend on, and its versions."""

    def features(self, x: Tensor, stats: Tensor | None) -> Tensor:
        """Features [B, S, F] of items [B, S, *in_shape]; stats [B, M]: see Body."""
        return self._net.features(self._of_tasks(len(x)), x, stats)

    def with_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, S, F], and the batch statistics [B, M] of x that they used."""
        return self._net.features_and_statistics(self._of_tasks(len(x)), x)

    def once(self, x: Tensor, stats: Tensor | None) -> Tensor:
        """Features [B, S, F] of items that do not depend on each other, each computed once; stats [M] are for all."""
        of_all = None if stats is None else stats.unsqueeze(0)
        if torch.compiler.is_exporting() or (torch.is_grad_enabled() and x.requires_grad):
            return self.features(x, None if stats is None else stats.expand(len(x), -1))
        if not (len(x) and x.shape[1]):
            return x.new_zeros(*x.shape[:2], self.body.n_features)

        def compute(items: Tensor) -> Tensor:
            parts = items.unsqueeze(0).split(AT_ONCE, 1)
            return torch.cat([self.features(part, of_all)[0] for part in parts])

        decides = [self.weights, *([] if stats is None else [stats]), *self.body.constants().values()]
        of_now = [(value, -1 if value.is_inference() else value._version) for value in decides]
        if not _same(of_now, self._cached_for):  # something was loaded, moved or changed
            self._cache.clear()
            self._cached_for = of_now
        features: Tensor = self._cache.features(x.flatten(0, 1), compute).unflatten(0, x.shape[:2])
        return features

    def _of_tasks(self, tasks: int) -> Tensor:
        runs = len(self.weights)
        return self.weights.unsqueeze(1).expand(-1, tasks // runs, -1).reshape(tasks, -1)


def _same(now: list[tuple[Tensor, int]], then: list[tuple[Tensor, int]]) -> bool:
    """Whether these are the same tensors, unchanged."""
    return len(now) == len(then) and all(a is b and v == w for (a, v), (b, w) in zip(now, then, strict=True))
