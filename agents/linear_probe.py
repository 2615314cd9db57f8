"""Linear probe (as in Chen et al. 2019; Tian et al. 2020): logistic regression on pre-trained features.

    W, b = argmin  1/2 |W|^2 + C sum over the support of -log softmax(W z + b)_y,   z = f(x) / |f(x)|

For regression: squared errors in the place of the logarithms. b is not in the penalty. Convex: the optimum depends on
the support alone. It is that of the classes that the support has: others get no weights and a low b.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig
from agents.networks import Network
from agents.neural import Adapted
from agents.pretraining import FixedFeaturesConfig, Pretrained
from agents.r2d2 import ridge
from fewshot_env.episode import Split, TaskSpec

ABSENT = 20.0
"""How far below the lowest b that of a class without support items lies."""


class LinearProbeConfig(FixedFeaturesConfig):
    """Settings of the linear probe."""

    penalty: float = Field(1.0, gt=0, description="C, weight of the support's losses beside 1/2 |W|^2")
    normalize: bool = Field(True, description="L2-normalize the features first")


def logistic_regression(z: Tensor, y: Tensor, n_classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """W [N, F] and b [N] of one task with features z [S, F] and labels y [S], by L-BFGS in float64.

    W is a combination of the items, so that it is searched in their span, of S dimensions at most.
    """
    classes, y = y.unique(return_inverse=True)
    span, items = torch.linalg.qr(z.double().mT)  # z^T = span items: [F, k] and [k, S]
    weights = z.new_zeros(len(classes), span.shape[1] + 1, dtype=torch.float64).requires_grad_()
    search = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        w, b = weights[:, :-1], weights[:, -1:]
        value = 0.5 * w.square().sum() + penalty * F.cross_entropy((w @ items + b).mT, y, reduction="sum")
        torch.autograd.backward(value)
        return value.detach()

    with torch.enable_grad():
        search.step(loss)
    found, b = weights.detach()[:, :-1], weights.detach()[:, -1] - weights.detach()[:, -1].mean()
    whole_w, whole_b = z.new_zeros(n_classes, z.shape[1]), z.new_full((n_classes,), float(b.min()) - ABSENT)
    whole_w[classes], whole_b[classes] = (found @ span.mT).to(z), b.to(z)
    return whole_w, whole_b


class LinearProbe(Pretrained):
    """Pre-trained features stay; the best linear head of a task is found."""

    answers_alone = True
    Config: ClassVar[type[AgentConfig]] = LinearProbeConfig
    config: LinearProbeConfig

    @classmethod
    def learns_with(cls, spec: TaskSpec, config: AgentConfig) -> bool:
        """With a frozen body a pre-training would leave nothing."""
        return cls.learns and isinstance(config, LinearProbeConfig) and config.body != "frozen"

    def adapt_to(self, support: Split) -> Adapted:
        """The optimal head; zeros where S = 0."""
        items, features, stats = self.features(support)
        z, y = self._scaled(features), items.labels
        n = self.spec.n_outputs
        if not z.shape[1]:
            return self.with_head(support, z.new_zeros(len(z), n * (z.shape[2] + 1)), stats)
        if self.spec.kind == "classification":
            found = [logistic_regression(*task, n, self.config.penalty) for task in zip(z, y, strict=True)]
            w, b = (torch.stack(part) for part in zip(*found, strict=True))
        else:
            centre, level = z.mean(1, keepdim=True), y.mean(1, keepdim=True)
            w = ridge(z - centre, y - level, z.new_tensor(1 / (2 * self.config.penalty))).mT
            b = (level - centre @ w.mT).squeeze(1)
        return self.with_head(support, torch.cat([w.flatten(1), b], 1), stats)

    def _scaled(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1) if self.config.normalize else features

    def query_features(self, net: Network, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Features [B, Q, F] that the head of `net` reads: as they are in train mode."""
        features = super().query_features(net, adapted, query_x)
        return features if self.training else self._scaled(features)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Logits over the base classes in train mode; scores or values [B, Q, N] in eval mode."""
        if self.training:
            return super().predict(adapted, query_x)
        features = self.query_features(self.net, adapted, query_x)
        return self.net.head(adapted.params[:, self.net.n_body :], features)
