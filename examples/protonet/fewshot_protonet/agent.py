"""ProtoNet (Snell, Swersky & Zemel 2017): the class whose mean embedding is nearest.

    c_n = mean of f(x) over the support of class n,   logit_n(x) = -|f(x) - c_n|^2        (Eq. 1 and 2)

Expanded, -|z - c|^2 = 2 c.z - |c|^2 - |z|^2. The last term is the same for every class, so the probabilities are those
of a linear classifier with weights 2 c and bias -|c|^2 (their Eq. 8): adaptation only sets a head.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.networks import LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class ProtoNetConfig(NeuralConfig):
    """Settings of ProtoNet: those of the embedding."""

    padding: int = Field(1, ge=0, le=1, description="padding of Conv4's convolutions: 1 as Snell et al.")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """As Snell et al., whatever the size of the images."""
        return {}


class ProtoNet(NeuralAgent):
    """A learned embedding (Conv4, or the MLP for vectors); a task is learned by its class means."""

    Config: ClassVar[type[AgentConfig]] = ProtoNetConfig

    def __init__(self, spec: TaskSpec, config: ProtoNetConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("ProtoNet compares with class means, and regression has no classes; try maml or turtle")
        super().__init__(spec, config)
        self.net = Network(self.body, LinearHead(self.body.n_features, spec.n_outputs), config.at_once)
        self.embedding = nn.Parameter(self.net.init()[: self.net.n_body])  # [P]

    def adapt(self, support: Split) -> Adapted:
        """The embedding's weights and a head made of the class means; equal scores where S = 0."""
        tasks = len(support.x)
        body = self.embedding.expand(tasks, -1)
        z = self.net.features(body, support.x, self.stats_while_adapting(tasks))  # [B, S, F]
        members = F.one_hot(support.labels, self.spec.n_outputs).to(z)  # [B, S, N]
        means = members.mT @ z / members.sum(1).clamp(min=1).unsqueeze(-1)  # [B, N, F]
        head = torch.cat([2 * means.flatten(1), -means.square().sum(-1)], 1)
        params = torch.cat([body, head], 1)
        return Adapted(params, params.new_zeros(tasks, 0), self.stats_for_query(self.net, params, support))

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Scores [B, Q, N]: minus the squared distances, up to what is the same for all classes."""
        return self.predict_with(self.net, adapted, query_x)
