"""Pre-training as a classifier of all base classes, on minibatches; what a new task does with the features is open."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.networks import Head, LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec


class PretrainedConfig(NeuralConfig):
    """Settings of the pre-training."""

    pretrain_batch: BoundedInt = Field(16, ge=1, description="items per pre-training step")
    body: Literal["adapted", "learned", "frozen"] = Field(
        "learned", description=NeuralConfig.model_fields["body"].description
    )

    @field_validator("meta_batch")
    @classmethod
    def _no_meta_batch(cls, number: int) -> int:
        if number != 1:
            raise ValueError("it is pre-trained on minibatches, not on tasks; set agent.pretrain_batch")
        return number

    @property
    def minibatch(self) -> int:
        """Pre-trained on minibatches."""
        return self.pretrain_batch


class FixedFeaturesConfig(PretrainedConfig):
    """Settings of methods that work on pre-trained features as they are."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network: learned in pre-training, or frozen (keeps its first weights)"
    )
    bn: Literal["transductive", "support", "running"] = Field(
        "running", description=NeuralConfig.model_fields["bn"].description
    )


class Pretrained(NeuralAgent):
    """A network that learns as a classifier; a subclass says how it meets a new task."""

    Config: ClassVar[type[AgentConfig]] = PretrainedConfig
    answers_alone = True
    encodes = ("frozen",)  # learned weights of the body lie with those of the head
    config: PretrainedConfig

    def __init__(self, spec: TaskSpec, config: PretrainedConfig) -> None:
        super().__init__(spec, config)
        n_base = spec.n_base_classes if spec.kind == "classification" else spec.n_outputs
        self.base_net = Network(self.body, self.make_head(self.body.n_features, n_base), config.at_once)
        self.net = Network(self.body, self.make_head(self.body.n_features, spec.n_outputs), config.at_once)
        self.weights = nn.Parameter(self.base_net.init())

    @property
    def at_once(self) -> int | None:
        """All: the network's passes are few beside the steps of the heads, which are taken for all tasks together."""
        return self.config.at_once

    def make_head(self, n_features: int, n_outputs: int) -> Head:
        """The classifier or regressor on the features."""
        return LinearHead(n_features, n_outputs)

    def adapt(self, support: Split) -> Adapted:
        """In train mode the pre-trained weights; in eval mode those of a new task (B tasks at once)."""
        if self.training:
            tasks = len(support.x)
            return Adapted(self.weights.expand(tasks, -1), support.x.new_zeros(tasks, 0), None)
        return self.adapt_to(support)

    @abstractmethod
    def adapt_to(self, support: Split) -> Adapted:
        """What `predict` needs for new tasks, in eval mode."""

    def body_weights(self, tasks: int) -> Tensor:
        """The pre-trained weights of the body [B, P_body], without a graph."""
        return self.weights.detach()[: self.net.n_body].expand(tasks, -1)

    def features(self, support: Split) -> tuple[Split, Tensor, Tensor | None]:
        """The support, its features [B, S, F], and the statistics for the query where an encoder gives them."""
        items, stats = self.encode(support)
        tasks = len(items.x)
        found = self.net.features(self.body_weights(tasks), items.x, self.stats_while_adapting(tasks))
        return items, found, stats

    def with_head(self, support: Split, head: Tensor, stats: Tensor | None) -> Adapted:
        """The pre-trained body below heads [B, P_head]; stats: as `features` gives them."""
        params = torch.cat([self.body_weights(len(head)), head], 1)
        return Adapted(params, params.new_zeros(len(head), 0), self.stats_for_query(self.net, params, support, stats))

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Logits over the base classes [B, Q, n_base] in train mode, over the task's ways [B, Q, N] in eval mode."""
        return self.predict_with(self.base_net if self.training else self.net, adapted, query_x)
