"""Matching networks (Vinyals et al. 2016): attention over the support's labels, by cosine of learned features.

    P(class n | x) = sum over the support items s of class n of softmax_s(scale cos(f(x), f(s)))      (their Eq. 1, 2)

Without full-context embeddings. The published scale is 1; a larger one sharpens the attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig
from agents.networks import Network
from agents.networks.heads import NoHead
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class MatchingConfig(NeuralConfig):
    """Settings of matching networks."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network: learned in meta-training, or frozen (keeps its first weights)"
    )
    scale: float = Field(1.0, gt=0, description="factor on the cosines in the attention (published: 1)")


@dataclass(frozen=True)
class Remembered(Adapted):
    """The support: normalized features [B, S, F] and one-hot labels [B, S, N]."""

    keys: Tensor | None = None
    values: Tensor | None = None


class Matching(NeuralAgent):
    """Matching networks; a task is learned by remembering its support."""

    Config: ClassVar[type[AgentConfig]] = MatchingConfig
    answers_alone = True
    stackable = True
    config: MatchingConfig

    @classmethod
    def learns_with(cls, spec: TaskSpec, config: AgentConfig) -> bool:
        """The features are all there is to learn."""
        return isinstance(config, MatchingConfig) and config.body == "learned"

    def __init__(self, spec: TaskSpec, config: MatchingConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("matching networks mix labels, and regression has none; try maml, turtle or r2d2")
        super().__init__(spec, config)
        self.net = Network(self.body, NoHead(), config.at_once)

    def adapt(self, support: Split) -> Remembered:
        """The support's features and labels; equal scores where S = 0."""
        items, stats = self.encode(support)
        values = F.one_hot(items.labels, self.spec.n_outputs).to(items.x)
        nothing = items.x.new_zeros(len(values), 0)
        return Remembered(nothing, nothing, stats, None, F.normalize(items.x, dim=-1), values)

    def predict(self, adapted: Remembered, query_x: Tensor) -> Tensor:
        """Logarithms of the probabilities [B, Q, N]."""
        assert adapted.keys is not None
        assert adapted.values is not None
        features = F.normalize(self.query_features(self.net, adapted, query_x), dim=-1)
        if not adapted.keys.shape[1]:
            return features.new_zeros(*features.shape[:2], self.spec.n_outputs)
        attention = (self.config.scale * features @ adapted.keys.mT).softmax(-1)
        tiny = torch.finfo(attention.dtype).tiny
        return (attention @ adapted.values).clamp(min=tiny).log()
