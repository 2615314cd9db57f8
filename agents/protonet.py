"""ProtoNet (Snell, Swersky & Zemel 2017): the class whose mean embedding is nearest.

    c_n = mean of f(x) over the support of class n,   logit_n(x) = -|f(x) - c_n|^2        (Eq. 1 and 2)

Expanded, -|z - c|^2 = 2 c.z - |c|^2 - |z|^2. The last term is the same for every class, so the probabilities are those
of a linear classifier with weights 2 c and bias -|c|^2 (their Eq. 8): adaptation only sets a head. With L2-normalized
features, which a network that was trained otherwise needs, the head has the distances themselves.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig
from agents.networks import Head, LinearHead, NearestMeanHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class ProtoNetConfig(NeuralConfig):
    """Settings of ProtoNet: those of the embedding."""

    body: Literal["learned", "frozen"] = Field("learned", description="the embedding: learned in meta-training, or "
                                               "frozen (keeps its first weights, so there is no training)")  # fmt: skip
    normalize: bool = Field(
        default_factory=lambda data: data.get("body") == "frozen",
        description="L2-normalize features before means and distances are taken",
        json_schema_extra={"default_in_words": "false; true where body is frozen, whose features had another purpose"},
    )
    scale: float = Field(
        10.0, gt=0, description="factor on the squared distances of normalized features, which are 4 at most"
    )
    padding: int = Field(1, ge=0, le=1, description="padding of Conv4's convolutions: 1 as Snell et al.")

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """As Snell et al., whatever the size of the images."""
        return {}


def class_means(features: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Means [B, N, F] of features [B, S, F] over the items of each class; zero for a class that has none."""
    members = F.one_hot(labels, n_classes).to(features)  # [B, S, N]
    return members.mT @ features / members.sum(1).clamp(min=1).unsqueeze(-1)


class ProtoNet(NeuralAgent):
    """An embedding that tasks do not change; a task is learned by its class means."""

    Config: ClassVar[type[AgentConfig]] = ProtoNetConfig
    answers_alone = True
    stackable = True
    config: ProtoNetConfig

    @classmethod
    def learns_with(cls, spec: TaskSpec, config: AgentConfig) -> bool:
        """The embedding is all there is to learn."""
        return isinstance(config, ProtoNetConfig) and config.body == "learned"

    def __init__(self, spec: TaskSpec, config: ProtoNetConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("ProtoNet compares with class means, and regression has no classes; try maml or turtle")
        super().__init__(spec, config)
        sizes = self.body.n_features, spec.n_outputs
        head: Head = NearestMeanHead(*sizes, config.scale) if config.normalize else LinearHead(*sizes)
        self.net = Network(self.body, head, config.at_once)

    def adapt(self, support: Split) -> Adapted:
        """A head made of the class means of the support's features; equal scores where S = 0."""
        items, stats = self.encode(support)
        features = F.normalize(items.x, dim=-1) if self.config.normalize else items.x
        means = class_means(features, items.labels, self.spec.n_outputs)
        last = means.new_zeros(len(means), means.shape[2])  # no centre
        if not self.config.normalize:
            means, last = 2 * means, -means.square().sum(-1)
        head = torch.cat([means.flatten(1), last], 1)
        return Adapted(head, head.new_zeros(len(head), 0), stats)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Scores [B, Q, N]: minus the squared distances, up to what is the same for all classes."""
        return self.predict_with(self.net, adapted, query_x)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Weights that were saved while the embedding had no runs still load."""
        if prefix + "embedding" in state_dict:
            state_dict[prefix + "encoder.weights"] = state_dict.pop(prefix + "embedding").unsqueeze(0)
        super()._load_from_state_dict(state_dict, prefix, *args)
