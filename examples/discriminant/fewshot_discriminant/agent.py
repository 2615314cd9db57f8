"""Linear discriminant analysis (Fisher 1936) on a learned embedding: classes are normal with one covariance.

    c_n = mean of f(x) over the support of class n,   C = ridge I + mean over the support of (f(x) - c_y) (f(x) - c_y)^T
    logit_n(x) = c_n^T C^-1 f(x) - c_n^T C^-1 c_n / 2

With one item per class there is no deviation from the means, and what is left are class means, as in ProtoNet. C has
more rows than there are items, so it is inverted through the items (Woodbury's identity).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig
from agents.networks import LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class DiscriminantConfig(NeuralConfig):
    """Settings of the discriminant: those of the embedding, and one of its own."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the embedding: learned in meta-training, or frozen"
    )
    ridge: float = Field(1.0, gt=0, description="added to the variance of every feature")


class Discriminant(NeuralAgent):
    """A learned embedding (Conv4, or the MLP for vectors); a task is learned by its class means and covariance."""

    Config: ClassVar[type[AgentConfig]] = DiscriminantConfig
    config: DiscriminantConfig

    def __init__(self, spec: TaskSpec, config: DiscriminantConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("the discriminant separates classes, and regression has none; try maml or turtle")
        super().__init__(spec, config)
        self.net = Network(self.body, LinearHead(self.body.n_features, spec.n_outputs))

    def adapt(self, support: Split) -> Adapted:
        """A linear head made of class means and covariance; equal scores where S = 0."""
        items, stats = self.encode(support)  # x: features [B, S, F]
        members = F.one_hot(items.labels, self.spec.n_outputs).to(items.x)  # [B, S, N]
        means = members.mT @ items.x / members.sum(1).clamp(min=1).unsqueeze(-1)  # [B, N, F]
        deviations = (items.x - members @ means) / max(1, items.x.shape[1]) ** 0.5  # [B, S, F]
        ridge, identity = self.config.ridge, torch.eye(items.x.shape[1]).to(means)
        inner = ridge * identity + deviations @ deviations.mT  # [B, S, S]
        correction = torch.linalg.solve(inner, deviations @ means.mT).mT @ deviations  # [B, N, F]
        weights = (means - correction) / ridge  # C^-1 c_n
        head = torch.cat([weights.flatten(1), -(weights * means).sum(-1) / 2], 1)
        return Adapted(head, head.new_zeros(len(head), 0), stats)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Logits [B, Q, N] of the query."""
        return self.predict_with(self.net, adapted, query_x)
