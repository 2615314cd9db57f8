"""Relation network (Sung et al. 2018): a learned comparison of a class's mean features with those of a query item.

    r_n(x) = sigmoid(g(c_n, f(x))),   loss = mean over classes and query of (r_n(x) - [x is of n])^2     (their Eq. 2)

g is two 3x3 convolutions on both feature maps side by side, each followed by normalization, ReLU and pooling, and two
linear layers; where the network gives vectors, linear layers take the place of the convolutions. It normalizes every
pair by itself (layer normalization): published, batch normalization makes an answer depend on the other items.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.networks import LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from agents.protonet import class_means
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class RelationConfig(NeuralConfig):
    """Settings of the relation network."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network: learned in meta-training, or frozen (keeps its first weights)"
    )
    channels: BoundedInt = Field(64, ge=1, description="channels (or units) of the comparison's first two layers")
    units: BoundedInt = Field(8, ge=1, description="units of its linear layer")


class Comparison(nn.Module):
    """g: scores [B, Q, N] of class means [B, N, F] and items [B, Q, F], whose features are maps [C, H, W] or vectors.

    The first layer is linear in both halves of its input, so that it sees every mean and every item once.
    """

    def __init__(self, maps: tuple[int, int, int], channels: int, units: int) -> None:
        super().__init__()
        self.maps = maps
        depth, size = maps[0], min(maps[1:])
        self.poolings = [n for n in (size, size // 2) if n > 1]
        kernel = 3 if size > 1 else 1
        self.of_mean = nn.Conv2d(depth, channels, kernel, padding=kernel // 2)
        self.of_item = nn.Conv2d(depth, channels, kernel, padding=kernel // 2, bias=False)
        self.second = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(2))
        shrunk = 2 ** len(self.poolings)
        self.hidden = nn.Linear(channels * (maps[1] // shrunk) * (maps[2] // shrunk), units)
        self.score = nn.Linear(units, 1)

    def forward(self, means: Tensor, items: Tensor) -> Tensor:
        """Scores before the sigmoid."""
        (tasks, classes), queries = means.shape[:2], items.shape[1]
        ours = self.of_mean(means.reshape(-1, *self.maps)).unflatten(0, (tasks, 1, classes))
        theirs = self.of_item(items.reshape(-1, *self.maps)).unflatten(0, (tasks, queries, 1))
        h = (ours + theirs).flatten(0, 2)
        h = self._shrunk(self.norms[0](h).relu(), 0)
        h = self._shrunk(self.norms[1](self.second(h)).relu(), 1)
        scores: Tensor = self.score(self.hidden(h.flatten(1)).relu())
        return scores.view(tasks, queries, classes)

    def _shrunk(self, h: Tensor, layer: int) -> Tensor:
        return F.max_pool2d(h, 2) if layer < len(self.poolings) else h


class Relation(NeuralAgent):
    """A relation network; a task is learned by its class means."""

    Config: ClassVar[type[AgentConfig]] = RelationConfig
    answers_alone = True
    config: RelationConfig

    def __init__(self, spec: TaskSpec, config: RelationConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("relation networks compare with classes, and regression has none; try maml or r2d2")
        super().__init__(spec, config)
        n_features = self.body.n_features
        self.net = Network(self.body, LinearHead(n_features, spec.n_outputs), config.at_once)
        self.comparison = Comparison(self.backbone.maps or (n_features, 1, 1), config.channels, config.units)

    def adapt(self, support: Split) -> Adapted:
        """The class means [B, N F] of the support's features."""
        items, stats = self.encode(support)
        means = class_means(items.x, items.labels, self.spec.n_outputs).flatten(1)
        return Adapted(means, means.new_zeros(len(means), 0), stats)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Scores before the sigmoid [B, Q, N]."""
        features = self.query_features(self.net, adapted, query_x)
        scores: Tensor = self.comparison(adapted.params.unflatten(1, (self.spec.n_outputs, -1)), features)
        return scores

    def meta_gradient(self, adapted: Adapted, predictions: Tensor, query_y: Tensor) -> Tensor:
        """The gradient of the squared errors of the sigmoids."""
        is_class = F.one_hot(query_y, self.spec.n_outputs).to(predictions)
        losses = (predictions.sigmoid() - is_class).square().mean((1, 2))
        losses.sum().backward()
        return losses.detach()
