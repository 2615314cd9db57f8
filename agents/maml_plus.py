"""MAML++ (Antoniou, Edwards & Storkey 2019): MAML with what makes it train steadily.

    L = sum over t = 1..T of w_t L_query(theta^(t)),   theta_l^(t+1) = theta_l^(t) - alpha_(l, t) * grad_l L_support

- The query loss after every step counts, with weights that begin equal and move to the last step (their Sect. 4).
- Rates are learned for every layer and step.
- Scales and shifts of batch normalization are learned for every step, and do not adapt; its statistics are those of
  each pass, and so of each step.
- The first outer steps may be first-order; the outer rate falls along a cosine.

With equal rates, one set of scales and all weight on the last step its meta-gradient is MAML's, but for the scales,
which do not adapt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.engine.inner_loop import Step, UpdateRule, Watch
from agents.gradient_based import INNER_CLIP, TASK_CLIP, GradientBased, GradientBasedConfig, published_clip
from agents.networks import Network, by_weight, replaced, unpack
from agents.neural import Adapted
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError

LEAST_SHARE = 0.03
"""What the weights of the losses before the last fall to, over T."""

LEAST_RATE = 1e-5

USUAL_STEPS = 10_000


class MAMLPlusConfig(GradientBasedConfig):
    """Settings of MAML++."""

    inner_lr: float = Field(0.01, gt=0, description="where the learned rates of the inner loop begin")
    inner_clip: float | None = published_clip(INNER_CLIP)
    task_clip: float | None = published_clip(TASK_CLIP)
    schedule_steps: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="outer steps of the schedules; a run that is lengthened keeps them",
        json_schema_extra={"default_in_words": "those of the run; 10000 outside of runs"},
    )
    multi_step_share: float = Field(
        0.15, ge=0, le=1, description="share of these steps in which losses before the last count (published: 0.15)"
    )
    first_order_share: float = Field(
        0.0, ge=0, le=1, description="share of these steps, from the first, that are first-order (published: up to 1/3)"
    )
    bn: Literal["transductive", "support", "running"] = Field(
        "transductive",
        description="statistics that batch normalization uses for the query: the whole query's, the support's, or "
        "running ones, which need body = learned or frozen (where the body adapts, every step has its own)",
    )

    @model_validator(mode="after")
    def _no_running_ones(self) -> MAMLPlusConfig:
        if self.bn == "running" and self.body == "adapted":
            raise ValueError("agent.bn=running needs agent.body=learned or frozen: here every step has statistics of "
                             "its own; use transductive or support")  # fmt: skip
        return self

    def for_run(self, outer_steps: int) -> MAMLPlusConfig:
        """The schedules are as long as the run, unless they are given."""
        return self.model_copy(update={"schedule_steps": self.schedule_steps or max(1, outer_steps)})

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """T = 5, also at the test; 4 tasks per step (1-shot) or 2 (5-shot), as MAML."""
        few = spec.kind == "regression" or n_shot < 5
        return super().paper(spec, n_shot) | {"inner_steps": 5, "meta_batch": 4 if few else 2}


class StepByStep(nn.Module):
    """theta - alpha * gradient with rates by step and layer; normalizations are set anew at every step."""

    def __init__(self, lr: float, net: Network, theta: Tensor, steps: int) -> None:
        """theta [1, P]: the initialization, whose scales and shifts are where those of every step begin."""
        super().__init__()
        self.steps, self.shapes, self.layers = steps, net.shapes, list(net.layers.values())
        self.rates = nn.Parameter(torch.full((1, steps, len(self.layers)), lr))  # [runs, T, L]
        names = [name for pair in net.body.affine for name in pair]
        first = [unpack(theta.detach()[0], self.shapes)[name] for name in names]
        self.names, self.sizes = names, [len(part) for part in first]
        values = torch.cat(first) if first else torch.zeros(0)
        self.affine = nn.Parameter(values.expand(1, steps, -1).clone()) if names else None  # [runs, T, scales, shifts]

    def init(self, params: Tensor) -> None:
        """No state."""

    def forward(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: None) -> tuple[Tensor, None]:
        """New weights from weights and gradients [B, P]; steps beyond those of training take the last one's values."""
        step = min(step, self.steps - 1)
        per_run = len(params) // len(self.rates)
        rates = by_weight(self.rates[:, step], self.layers)
        new = params - rates.repeat_interleave(per_run, 0) * grads
        if self.affine is None:
            return new, None
        parts = self.affine[:, step].repeat_interleave(per_run, 0).split(self.sizes, 1)
        return replaced(new, self.shapes, dict(zip(self.names, parts, strict=True))), None


@dataclass(frozen=True)
class EveryStep(Adapted):
    """Adapted weights, those after every step before the last, and the predictions of all in this order, once made."""

    before_last: list[Adapted] = field(default_factory=list)
    predictions: list[Tensor] = field(default_factory=list)


class ScheduledAdam(torch.optim.Adam):
    """Adam whose rate falls along a cosine in a number of steps; the count is part of its state."""

    def __init__(self, params: Any, lr: float, steps: int) -> None:
        super().__init__(params, lr=lr, fused=True)
        for group in self.param_groups:
            group["first_lr"], group["taken"], group["steps"] = lr, 0, steps

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step at the present rate."""
        for group in self.param_groups:
            done, least = min(1.0, group["taken"] / group["steps"]), min(LEAST_RATE, group["first_lr"])
            group["lr"] = least + (group["first_lr"] - least) * (1 + math.cos(math.pi * done)) / 2
            group["taken"] += 1
        super().step(closure)


def loss_weights(steps: int, done: float) -> list[float]:
    """w_1 to w_T when a share `done`, 0 to 1, of the multi-step phase is over; 1 and more: the last alone."""
    if done >= 1:
        return [0.0] * (steps - 1) + [1.0]
    early = max((1 - done) / steps, LEAST_SHARE / steps)
    return [early] * (steps - 1) + [min((1 + done * (steps - 1)) / steps, 1 - LEAST_SHARE * (steps - 1) / steps)]


class MAMLPlus(GradientBased):
    """MAML++, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = MAMLPlusConfig
    answers_alone = True
    stackable = True
    config: MAMLPlusConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Learned rates, scales and shifts of every step."""
        return StepByStep(self.config.inner_lr, net, self.initialization, self.config.inner_steps)

    @property
    def schedule_steps(self) -> int:
        """Outer steps of the schedules."""
        return self.config.schedule_steps or USUAL_STEPS

    @property
    def _done(self) -> float:
        """Share of the schedules that is over."""
        group = self.outer.optimizer.param_groups[0]
        return float(group["taken"] / group["steps"])

    def first_order(self) -> bool:
        """Always where so configured, and in the first outer steps where these are."""
        return self.config.first_order or (self.training and self._done < self.config.first_order_share)

    def _weights(self) -> list[float]:
        """Of the query losses after steps 1 to T."""
        share = self.config.multi_step_share
        return loss_weights(self.config.inner_steps, self._done / share if share else 1.0)

    def _adapt(self, support: Split, watch: Watch | None) -> Adapted:
        """In training, the weights after every step whose loss counts are kept."""
        if not (self.training and support.x.shape[1] and self._weights()[0]):
            return super()._adapt(support, watch)
        after: list[Tensor] = []

        def both(step: Step) -> None:
            after.append(step.after)
            if watch is not None:
                watch(step)

        last = super()._adapt(support, both)
        way = [
            replace(last, params=w, stats=self.stats_for_query(self.net, w, support, last.stats)) for w in after[:-1]
        ]
        return EveryStep(last.params, last.losses, last.stats, None, way)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Predictions [B, Q, N] with the adapted weights; in training also with those of the steps before."""
        if not isinstance(adapted, EveryStep):
            return self.predict_with(self.net, adapted, query_x)
        way = [*adapted.before_last, adapted]
        if self.encoder is None:
            adapted.predictions[:] = [self.predict_with(self.net, a, query_x) for a in way]
        else:
            features = self.query_features(self.net, adapted, query_x)
            adapted.predictions[:] = [self.net.head(a.params, features) for a in way]
        return adapted.predictions[-1]

    def meta_gradient(self, adapted: Adapted, predictions: Tensor, query_y: Tensor) -> Tensor:
        """The gradient of the weighted query losses of all steps; the losses after the last are returned."""
        last = self.spec.loss(predictions, query_y)
        total = last
        if isinstance(adapted, EveryStep):
            ways = predictions.shape[-1]  # where ways are drawn, surplus outputs were left out
            *early, same = [p[..., :ways] for p in adapted.predictions] or [predictions[:0]]
            if same.shape != predictions.shape or not torch.equal(same, predictions):
                raise FewShotError("maml++ learns from what `predict` gave last for these tasks; pass that on")
            losses = [*(self.spec.loss(p, query_y) for p in early), last]
            total = torch.stack([w * loss for w, loss in zip(self._weights(), losses, strict=True)]).sum(0)
        total.sum().backward()
        return last.detach()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam along a cosine."""
        return ScheduledAdam(self.parameters(), self.config.outer_lr, self.schedule_steps)

    def distributions(self) -> dict[str, Tensor]:
        """The learned rates of every step, by layer."""
        assert isinstance(self.rule, StepByStep)
        return {f"rates/{name}": self.rule.rates.detach()[..., i] for i, name in enumerate(self.net.layers)}
