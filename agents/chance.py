"""The chance baseline, which every learner must beat, and the smallest complete agent."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.base import Agent
from fewshot_env.episode import Split


class Chance(Agent):
    """Answers with equal scores for every class (accuracy 1 / n_way), or with the mean support answer."""

    answers_alone = True
    learns = False

    def adapt(self, support: Split) -> Tensor:
        """The constant answer [B, 1, N]: zeros, or on regression the mean of the support (0 where S = 0)."""
        tasks = support.x.shape[0]
        if self.spec.kind == "regression" and support.x.shape[1]:
            return support.labels.mean(1, keepdim=True)
        return torch.zeros(tasks, 1, self.spec.n_outputs, device=support.x.device)

    def predict(self, adapted: Tensor, query_x: Tensor) -> Tensor:
        """The same answer for every query item [B, Q, N]."""
        return adapted.expand(-1, query_x.shape[1], -1)
