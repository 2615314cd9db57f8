"""SimpleShot (Wang et al. 2019): the nearest class mean of centred, L2-normalized features.

    z(x) = (f(x) - m) / |f(x) - m|,   c_n = mean of z over the support of class n,   class = argmin_n |z(x) - c_n|

m is the mean feature of the training images ("CL2N" there). The network is pre-trained as a classifier of the base
classes, or comes pre-trained: then nothing need be trained, and without training m is zero ("L2N").
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig
from agents.networks import NearestMeanHead, Network
from agents.neural import Adapted
from agents.pretraining import FixedFeaturesConfig, Pretrained
from agents.protonet import class_means
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError

MEMORY = 100
"""Training minibatches over which the mean feature is taken: up to this number all alike, then old ones fade."""


class SimpleShotConfig(FixedFeaturesConfig):
    """Settings of SimpleShot."""

    centre: bool = Field(True, description="subtract the mean feature of the training images, where there was training")
    scale: float = Field(
        10.0, gt=0, description="factor on the squared distances: probabilities change, the nearest class does not"
    )


class SimpleShot(Pretrained):
    """Pre-trained features, nearest class means."""

    answers_alone = True
    Config: ClassVar[type[AgentConfig]] = SimpleShotConfig
    config: SimpleShotConfig

    @classmethod
    def learns_with(cls, spec: TaskSpec, config: AgentConfig) -> bool:
        """With frozen features training still finds their mean."""
        return cls.learns

    def __init__(self, spec: TaskSpec, config: SimpleShotConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("SimpleShot compares with class means, and regression has no classes; try finetuning")
        super().__init__(spec, config)
        n_features = self.body.n_features
        self.net = Network(self.body, NearestMeanHead(n_features, spec.n_outputs, config.scale), config.at_once)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("minibatches", torch.zeros(()))
        self._features: list[Tensor] = []
        """Of each training minibatch since the last step: the mean feature."""

    mean: Tensor
    minibatches: Tensor

    def adapt_to(self, support: Split) -> Adapted:
        """The class means, and the centre, as a head."""
        items, features, stats = self.features(support)
        centre = self.mean * self.config.centre
        means = class_means(F.normalize(features - centre, dim=-1), items.labels, self.spec.n_outputs)
        return self.with_head(support, torch.cat([means.flatten(1), centre.expand(len(means), -1)], 1), stats)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Logits over the base classes in train mode; minus scaled squared distances [B, Q, N] in eval mode."""
        net = self.base_net if self.training else self.net
        features = self.query_features(net, adapted, query_x)
        if self.training:
            self._features += features.detach().mean(1).unbind()
        return net.head(adapted.params[:, net.n_body :], features)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Weights that were saved with a seed for draws, of which it makes none, still load."""
        state_dict.pop(prefix + "adapt_seed", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def batch_statistics(self) -> list[Tensor]:
        """Besides those of batch normalization: the number of minibatches, and the sum of their mean features."""
        seen, self._features = self._features, []
        own = [torch.cat([self.mean.new_full((1,), len(seen)), torch.stack(seen).sum(0)])] if seen else []
        return [*super().batch_statistics(), *own]

    def update_statistics(self, sums: list[Tensor]) -> None:
        """Move the mean feature towards this step's."""
        *of_norm, own = sums
        if of_norm:
            super().update_statistics(of_norm)
        new = own[0]
        self.minibatches += new
        self.mean.lerp_(own[1:] / new, float((new / self.minibatches.clamp(max=MEMORY)).clamp(max=1)))
