"""R2-D2 (Bertinetto, Henriques, Torr & Vedaldi 2019): ridge regression on learned features, in closed form.

    W = Z^T (Z Z^T + lambda I)^-1 Y,   prediction = alpha z W + beta                              (their Eq. 4, 5 and 6)

Z [S, F] are the support's features with a constant 1, Y its one-hot labels (for regression: its values). The system
has as many rows as there are support items (Woodbury's identity). lambda, alpha and beta are learned.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.networks import LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec


class R2D2Config(NeuralConfig):
    """Settings of R2-D2."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network: learned in meta-training, or frozen (keeps its first weights)"
    )
    first_ridge: float = Field(50.0, gt=0, description="lambda at first, which is learned")


def ridge(features: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """W [B, F, N] of features [B, S, F] and targets [B, S, N], with penalty [B, 1, 1] on squared weights."""
    items = features.shape[1]
    inner = features @ features.mT + penalty * torch.eye(items, dtype=features.dtype, device=features.device)
    weights: Tensor = features.mT @ torch.linalg.solve(inner, targets)
    return weights


class R2D2(NeuralAgent):
    """R2-D2: the base learner of a task is solved, not iterated."""

    Config: ClassVar[type[AgentConfig]] = R2D2Config
    answers_alone = True
    stackable = True
    config: R2D2Config

    def __init__(self, spec: TaskSpec, config: R2D2Config) -> None:
        super().__init__(spec, config)
        self.net = Network(self.body, LinearHead(self.body.n_features, spec.n_outputs), config.at_once)
        self.log_ridge = nn.Parameter(torch.tensor([[config.first_ridge]]).log())  # [runs, 1]
        self.scale, self.shift = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.zeros(1, 1))

    def adapt(self, support: Split) -> Adapted:
        """A linear head [B, P_head]; zero scores (for regression the learned shift) where S = 0."""
        items, stats = self.encode(support)
        y = items.labels
        targets = F.one_hot(y, self.spec.n_outputs).to(items.x) if self.spec.kind == "classification" else y
        with_one = torch.cat([items.x, torch.ones_like(items.x[..., :1])], -1)
        penalty, scale, shift = (self._by_task(p, len(y)) for p in (self.log_ridge.exp(), self.scale, self.shift))
        weights = scale * ridge(with_one, targets, penalty)  # [B, F + 1, N]
        head = torch.cat([weights[:, :-1].mT.flatten(1), (weights[:, -1:] + shift).flatten(1)], 1)
        return Adapted(head, head.new_zeros(len(head), 0), stats)

    def _by_task(self, of_runs: Tensor, tasks: int) -> Tensor:
        """[runs, 1] -> [B, 1, 1]."""
        return of_runs.repeat_interleave(tasks // self.runs, 0).unsqueeze(-1)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Scores or values [B, Q, N]."""
        return self.predict_with(self.net, adapted, query_x)
