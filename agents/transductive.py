"""Transductive fine-tuning (Dhillon, Chaudhari, Ravichandran & Soatto 2020): all weights adapt, to the query too.

    theta' = Adam steps on  L_support(theta) + mean over the query of the entropy of softmax(f_theta(x))   (their Eq. 8)

The network is pre-trained as a classifier. A new task's head begins with the normalized class means of the support's
features as its weights (their Sect. 3.1). Every step takes the whole support and query. What is answered depends on the
other query items, which are given together. Published, the new head stands on the old one's logits; here it takes the
old one's place on the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig, BoundedInt
from agents.neural import Adapted, NeuralConfig
from agents.pretraining import Pretrained, PretrainedConfig
from agents.protonet import class_means
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class TransductiveConfig(PretrainedConfig):
    """Settings of transductive fine-tuning."""

    adapt_steps: BoundedInt = Field(25, ge=0, description="Adam steps on a new task")
    adapt_lr: float = Field(5e-5, gt=0, description="learning rate of Adam on a new task")
    entropy: float = Field(1.0, ge=0, description="weight of the query's entropy; 0: it plays no part")
    body: Literal["adapted"] = Field("adapted", description="the network below the head: all weights adapt")
    bn: Literal["transductive", "support", "running"] = Field(
        "running", description=NeuralConfig.model_fields["bn"].description
    )


@dataclass(frozen=True)
class Begun(Adapted):
    """Weights before the first step, and the support that the steps need."""

    support: Split | None = None


class TransductiveFinetuning(Pretrained):
    """Adaptation waits for the query: the steps are taken in `predict`."""

    Config: ClassVar[type[AgentConfig]] = TransductiveConfig
    answers_alone = False
    config: TransductiveConfig

    def __init__(self, spec: TaskSpec, config: TransductiveConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError(
                "transductive fine-tuning lowers the entropy of classes, and regression has none; try finetuning"
            )
        super().__init__(spec, config)

    @property
    def at_once(self) -> int | None:
        """As configured, else all tasks or one: all weights adapt, so that the network's passes are the work."""
        return super(Pretrained, self).at_once

    def adapt_to(self, support: Split) -> Begun:
        """The pre-trained body below a head of class means; equal scores where S = 0."""
        items, features, _ = self.features(support)
        means = class_means(F.normalize(features, dim=-1), items.labels, self.spec.n_outputs)
        weights = F.normalize(means, dim=-1).flatten(1)
        head = torch.cat([weights, weights.new_zeros(len(weights), self.spec.n_outputs)], 1)
        begun = self.with_head(support, head, None)
        return Begun(begun.params, begun.losses, begun.stats, None, support)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Logits over the base classes in train mode; in eval mode those of the task [B, Q, N], after the steps."""
        if self.training or not isinstance(adapted, Begun):
            return super().predict(adapted, query_x)
        return super().predict(self._tuned(adapted, query_x), query_x)

    def _tuned(self, begun: Begun, query_x: Tensor) -> Adapted:
        """The weights after the steps, and the statistics for the query that follow from them."""
        support, params = begun.support, begun.params
        assert support is not None
        if not (support.x.shape[1] and query_x.shape[1] and self.config.adapt_steps):
            return begun
        tuned = params.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([tuned], lr=self.config.adapt_lr, fused=True)  # element by element: one per task
        stats = self.stats_while_adapting(len(params))
        with torch.enable_grad():
            for _ in range(self.config.adapt_steps):
                losses = self.spec.loss(self.net(tuned, support.x, stats), support.labels)
                of_query = self.stats_for_query(self.net, tuned, support)
                log_p = self.net(tuned, query_x, of_query).log_softmax(-1)
                entropies = -(log_p.exp() * log_p).sum(-1).mean(1)
                (tuned.grad,) = torch.autograd.grad((losses + self.config.entropy * entropies).sum(), tuned)
                optimizer.step()
        done = tuned.detach()
        with torch.no_grad():
            return Adapted(done, begun.losses, self.stats_for_query(self.net, done, support))
