"""Reptile (Nichol, Achiam & Schulman 2018): move the initialization towards the weights that tasks end at.

    theta <- theta + epsilon mean over tasks of (theta_T - theta)                                    (their Algorithm 1)

theta_T comes from T steps of Adam without momentum on minibatches of the support set; the query set is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig, BoundedInt
from agents.engine.inner_loop import Step, UpdateRule, Watch
from agents.gradient_based import GradientBased, GradientBasedConfig
from agents.networks import Network
from agents.neural import Adapted
from fewshot_env.episode import Split, TaskSpec

BETA2, EPS = 0.999, 1e-8


class ReptileConfig(GradientBasedConfig):
    """Settings of Reptile."""

    meta_batch: BoundedInt = Field(5, ge=1, description="tasks per outer step; what they learned is averaged")
    outer_lr: float = Field(1.0, gt=0, description="epsilon, share of the way towards the tasks' mean weights")
    anneal_steps: BoundedInt | None = Field(
        None, ge=1, description="outer steps in which epsilon falls linearly to 0 (published: all); null: it stays"
    )
    inner_steps: BoundedInt = Field(8, ge=1, description="T, updates per task in meta-training")
    eval_steps: BoundedInt | None = Field(50, ge=0, description="updates per task in validation and test")
    inner_lr: float = Field(0.001, gt=0, description="learning rate of Adam (without momentum) in the inner loop")
    inner_batch: BoundedInt | None = Field(
        10, ge=1, description="support items per update, in turn; null: the whole support"
    )
    first_order: Literal[True] = Field(True, description="no gradient goes through the inner loop: there is no choice")
    body: Literal["adapted", "frozen"] = Field(
        "adapted", description="the network below the head: adapted, or frozen (keeps its first weights)"
    )

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Sine: as published for it, SGD-like steps of 0.02 on the whole support."""
        paper = super().paper(spec, n_shot)
        return paper | {"inner_lr": 0.02, "inner_batch": None} if spec.kind == "regression" else paper


class AdamWithoutMomentum:
    """theta - lr * gradient / (root of the mean squared gradient + eps): Adam with beta1 = 0."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def init(self, params: Tensor) -> Tensor:
        """The running mean [B, P] of squared gradients."""
        return torch.zeros_like(params)

    def __call__(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """New weights from weights and gradients [B, P]."""
        state = BETA2 * state + (1 - BETA2) * grads.square()
        root = (state / (1 - BETA2 ** (step + 1))).sqrt()
        return params - self.lr * grads / (root + EPS), state


class AnnealedSGD(torch.optim.SGD):
    """Gradient descent whose rate falls linearly to 0 in a number of steps; the count is part of its state."""

    def __init__(self, params: Any, lr: float, steps: int | None) -> None:
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group["first_lr"], group["taken"], group["steps"] = lr, 0, steps

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step at the present rate."""
        for group in self.param_groups:
            if group["steps"] is not None:
                group["lr"] = group["first_lr"] * max(0.0, 1 - group["taken"] / group["steps"])
            group["taken"] += 1
        super().step(closure)


class Reptile(GradientBased):
    """Reptile with Adam inside."""

    Config: ClassVar[type[AgentConfig]] = ReptileConfig
    differentiates_adaptation = False
    stackable = True
    config: ReptileConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Adam without momentum."""
        return AdamWithoutMomentum(self.config.inner_lr)

    def _adapt(self, support: Split, watch: Watch | None) -> Adapted:
        config, (tasks, size) = self.config, support.x.shape[:2]
        items, stats = self.encode(support)
        params = self.initialization.detach().unsqueeze(1).expand(-1, tasks // self.runs, -1).reshape(tasks, -1)
        state, losses, per_step = self.rule.init(params), [], min(config.inner_batch or size, size)
        own_stats = self.stats_while_adapting(tasks)
        for step in range((config.inner_steps if self.training else config.steps_at_eval) if size else 0):
            part = torch.arange(step * per_step, (step + 1) * per_step, device=params.device) % size
            minibatch = items if per_step == size else Split(items.x[:, part], items.labels[:, part])
            grads, loss = self.net.objective(self.spec, minibatch, own_stats).gradient(params)
            if config.inner_clip is not None:
                grads = grads.clamp(-config.inner_clip, config.inner_clip)
            before = params
            params, state = self.rule(params, grads, loss, step, state)
            losses.append(loss)
            if watch is not None:
                watch(Step(before, params, grads, state))
        all_losses = torch.stack(losses, 1) if losses else params.new_zeros(tasks, 0)
        return Adapted(params, all_losses, self.stats_for_query(self.net, params, support, stats))

    def meta_gradient(self, adapted: Adapted, predictions: Tensor, query_y: Tensor) -> Tensor:
        """theta - theta_T of each task, over the size of the meta-batch."""
        theta = self.initialization
        gap = theta.detach().unsqueeze(1) - adapted.params.detach().unflatten(0, (self.runs, -1))
        if self.config.task_clip is not None:
            gap = gap.clamp(-self.config.task_clip, self.config.task_clip)
        mean = gap.sum(1) / self.config.meta_batch
        theta.grad = mean if theta.grad is None else theta.grad + mean
        return self.spec.loss(predictions, query_y).detach()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Steps of epsilon, which may fall linearly."""
        return AnnealedSGD(self.parameters(), self.config.outer_lr, self.config.anneal_steps)
