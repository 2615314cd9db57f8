"""iMAML (Rajeswaran, Finn, Kakade & Levine 2019): the meta-gradient at an optimum, without the way there.

The inner loop minimizes L_support(phi) + lambda / 2 |phi - theta|^2. At its minimum phi*(theta), implicitly,

    d phi* / d theta = (I + H / lambda)^-1,   H the Hessian of L_support at phi*                     (their Lemma 1)

so that the meta-gradient is (I + H / lambda)^-1 grad L_query(phi*), found by conjugate gradients. Memory does not
depend on the number of inner steps. Short of a minimum H may be indefinite: `damping` is added to lambda there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig, BoundedInt
from agents.engine.inner_loop import UpdateRule, Watch
from agents.gradient_based import GradientBased, GradientBasedConfig
from agents.networks import Network
from agents.networks.objective import Objective
from agents.neural import Adapted
from fewshot_env.episode import Split, TaskSpec


class IMAMLConfig(GradientBasedConfig):
    """Settings of iMAML."""

    inner_steps: BoundedInt = Field(10, ge=1, description="T, updates per task in meta-training")
    inner_lr: float = Field(0.01, gt=0, description="learning rate of the inner loop")
    proximity: float = Field(1.0, gt=0, description="lambda, weight of the squared distance to the initialization")
    cg_steps: BoundedInt = Field(5, ge=1, description="steps of conjugate gradients for the meta-gradient")
    damping: float = Field(
        10.0,
        ge=0,
        description="added to lambda in the meta-gradient, where the Hessian may be indefinite (the authors' "
        "code: 10); 0 is exact",
    )
    first_order: Literal[False] = Field(False, description="the meta-gradient is implicit: there is no choice")
    body: Literal["adapted", "frozen"] = Field(
        "adapted", description="the network below the head: adapted, or frozen (keeps its first weights)"
    )

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Images: 10 updates with lambda 0.5, 16 at the test. Sine: what learned here."""
        if spec.kind == "regression":
            return {"inner_lr": 0.02, "proximity": 0.1, "meta_batch": 4}
        return super().paper(spec, n_shot) | {"proximity": 0.5, "eval_steps": 16}


class ProximalDescent:
    """phi - lr * (gradient + lambda (phi - theta)), where phi starts at theta."""

    def __init__(self, lr: float, proximity: float) -> None:
        self.lr, self.proximity = lr, proximity

    def init(self, params: Tensor) -> Tensor:
        """The state is where the inner loop began."""
        return params

    def __call__(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """New weights from weights and gradients [B, P]."""
        return params - self.lr * (grads + self.proximity * (params - state)), state


@dataclass(frozen=True)
class AtOptimum(Adapted):
    """Adapted weights, and the objective that they (nearly) minimize."""

    objective: Objective | None = None


def conjugate_gradients(product: Any, v: Tensor, steps: int) -> Tensor:
    """u [B, P] with A u = v, approximately, for symmetric A, row by row; product(u) gives A u."""
    u, r = torch.zeros_like(v), v
    p, squared = r, (r * r).sum(1, keepdim=True)
    for _ in range(steps):
        q = product(p)
        alpha = _quotient(squared, (p * q).sum(1, keepdim=True))
        u, r = u + alpha * p, r - alpha * q
        after = (r * r).sum(1, keepdim=True)
        p, squared = r + _quotient(after, squared) * p, after
    return u


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """The quotient; 0 where nothing is left to divide by: a row that is solved stays."""
    solved = below.abs() <= torch.finfo(below.dtype).tiny
    return torch.where(solved, 0.0, above / torch.where(solved, 1.0, below))


class IMAML(GradientBased):
    """iMAML with gradient descent inside and conjugate gradients outside."""

    Config: ClassVar[type[AgentConfig]] = IMAMLConfig
    differentiates_adaptation = False
    stackable = True
    config: IMAMLConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent on the support loss and the distance to the initialization."""
        return ProximalDescent(self.config.inner_lr, self.config.proximity)

    def _adapt(self, support: Split, watch: Watch | None) -> Adapted:
        found = super()._adapt(support, watch)
        if not self.training:
            return found
        items, _ = self.encode(support)
        objective = self.net.objective(self.spec, items, self.stats_while_adapting(len(found.params)))
        return AtOptimum(found.params.detach().requires_grad_(), found.losses, found.stats, None, objective)

    def meta_gradient(self, adapted: AtOptimum, predictions: Tensor, query_y: Tensor) -> Tensor:
        """The implicit gradient of the summed query losses."""
        losses = self.spec.loss(predictions, query_y)
        (v,) = torch.autograd.grad(losses.sum(), adapted.params)
        objective, phi = adapted.objective, adapted.params.detach()
        assert objective is not None
        u, scale = v, self.config.proximity + self.config.damping
        if objective.support.x.shape[1]:
            with torch.no_grad():
                u = conjugate_gradients(lambda w: w + objective.hessian_vector(phi, w) / scale, v, self.config.cg_steps)
        theta = self.initialization
        by_run = u.unflatten(0, (self.runs, -1)).sum(1)
        theta.grad = by_run if theta.grad is None else theta.grad + by_run
        return losses.detach()
