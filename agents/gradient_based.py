"""GradientBased: a learned initialization adapted by an update rule (Algorithm 1): MAML, TURTLE and the LSTM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from agents import kernels
from agents.base import Agent, AgentConfig, BoundedInt
from agents.charts import Chart, update_by_gradient
from agents.engine import native
from agents.engine.inner_loop import Step, UpdateRule, Watch, inner_loop
from agents.engine.native import native_step
from agents.networks import LinearHead, MLPBody, Network
from agents.networks.network import is_unchanged
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Episode, Split, TaskSpec

INNER_CLIP = "bound on each element of the inner loop's gradients"
CLIP_ABOVE = (
    "bound on each element of the support loss's gradient by the weights, before it is passed on to what adapts"
)
CLIP_FIRST = "bound on each element of each task's gradient of the initialization, before tasks are summed"
TASK_CLIP = "bound on each element of each task's gradient of the weights that adapt, before tasks are summed"


def published_clip(description: str) -> Any:
    """The published implementation's bound of 10, which it applies where there are several inner updates."""
    return Field(
        default_factory=lambda data: 10.0 if data.get("inner_steps", 1) > 1 else None,
        gt=0,
        description=description,
        json_schema_extra={"default_in_words": "10 where inner_steps > 1, else null"},
    )


class GradientBasedConfig(NeuralConfig):
    """Settings of the inner loop."""

    inner_steps: BoundedInt = Field(5, ge=1, description="T, updates per task in meta-training")
    eval_steps: BoundedInt | None = Field(
        None, ge=0, description="updates per task in validation and test; default inner_steps"
    )
    first_order: bool = Field(False, description="gradients inside the update are constants")
    inner_clip: float | None = Field(None, gt=0, description=INNER_CLIP)
    task_clip: float | None = Field(None, gt=0, description=TASK_CLIP)

    @property
    def steps_at_eval(self) -> int:
        """Updates per task in validation and test."""
        return self.inner_steps if self.eval_steps is None else self.eval_steps


class GradientBased(NeuralAgent):
    """Base learner f_theta whose initialization theta is meta-learned together with the rule's own parameters."""

    answers_alone = True
    Config: ClassVar[type[AgentConfig]] = GradientBasedConfig
    config: GradientBasedConfig

    def __init__(self, spec: TaskSpec, config: GradientBasedConfig) -> None:
        super().__init__(spec, config)
        self.net = Network(self.body, LinearHead(self.body.n_features, spec.n_outputs), config.at_once)
        self.initialization = nn.Parameter(self.net.init().unsqueeze(0))  # [runs, P]
        self.rule = self.make_rule(self.net)

    @abstractmethod
    def make_rule(self, net: Network) -> UpdateRule:
        """The method's update rule for weights of `net`; an nn.Module where it has parameters."""

    def first_order(self) -> bool:
        """Whether gradients inside the update are constants, now."""
        return self.config.first_order

    def adapt(self, support: Split) -> Adapted:
        """Adapted weights after T updates from the initialization (line 6 to 9); the initialization where S = 0."""
        return self._adapt(support, None)

    def _adapt(self, support: Split, watch: Watch | None) -> Adapted:
        """`adapt`; `watch` is called after every update."""
        config, tasks = self.config, support.x.shape[0]
        items, stats = self.encode(support)
        params = self.initialization.unsqueeze(1).expand(-1, tasks // self.runs, -1).reshape(tasks, -1)
        bound = config.task_clip
        if bound is not None and params.requires_grad:
            params.register_hook(lambda g: g.clamp(-bound, bound))
        adapted, losses = inner_loop(
            params,
            self.rule,
            self.net.objective(self.spec, items, self.stats_while_adapting(tasks)),
            (config.inner_steps if self.training else config.steps_at_eval) if support.x.shape[1] else 0,
            self.first_order(),
            config.inner_clip,
            watch,
        )
        return Adapted(adapted, losses, self.stats_for_query(self.net, adapted, support, stats))

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Predictions [B, Q, N] with the adapted weights."""
        return self.predict_with(self.net, adapted, query_x)

    @property
    def learns_at_once(self) -> bool:
        """In one native call, where the base learner is an MLP and the rule has a kernel."""
        return self.has_native_loop and kernels.available(self.initialization)

    def learn_at_once(self, task: Episode) -> tuple[Adapted, Tensor, Tensor]:
        """Adapted weights, query losses and scores; the gradient is that of the summed losses."""
        config, rule = self.config, native_step(self.rule)
        assert rule is not None
        done = native.meta_gradient(
            self.initialization, self.net.shapes, rule, task, config.inner_steps, self.first_order(),
            config.inner_clip, config.task_clip,
        )  # fmt: skip
        of_values = self.spec.kind == "regression"  # whose score is minus the loss
        scores = -done.losses if of_values else self.spec.score(done.predictions, task.query.labels)
        return Adapted(done.adapted, done.inner_losses, None), done.losses, scores

    @cached_property
    def has_native_loop(self) -> bool:
        """Whether a kernel computes what this class does: nothing that decides it is overridden."""
        usual = {"_adapt": GradientBased, "adapt": GradientBased, "predict": GradientBased, "meta_gradient": Agent,
                 "encode": NeuralAgent, "predict_with": NeuralAgent}  # fmt: skip
        same = all(getattr(type(self), name) is getattr(cls, name) for name, cls in usual.items())
        plain = is_unchanged(self.body, MLPBody) and is_unchanged(self.net.head, LinearHead) and self.encoder is None
        kind = type(self.spec)
        losses = kind.loss is TaskSpec.loss and kind.score is TaskSpec.score
        return same and plain and losses and native_step(self.rule) is not None

    def trajectory(self, support: Split) -> list[Adapted]:
        """The weights before every update and after the last, with the norms of gradients and updates so far."""
        weights: list[Tensor] = []
        norms = [support.x.new_zeros(len(support.x), 0, 2)]

        def watch(step: Step) -> None:
            weights.append(step.before)
            both = torch.stack([step.grads, step.after - step.before], 1)
            norms.append(torch.linalg.vector_norm(both.detach(), dim=-1).unsqueeze(1))

        last = self._adapt(support, watch)
        way = [
            *(Adapted(w, last.losses, self.stats_for_query(self.net, w, support, last.stats)) for w in weights),
            last,
        ]
        seen = torch.cat(norms, 1)
        return [replace(a, losses=last.losses[:, :t], norms=seen[:, :t]) for t, a in enumerate(way)]

    def charts(self, support: Split) -> dict[str, Chart]:
        """What the rule did with the gradients that it met: the update by the gradient, at the first and last step."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def watch(step: Step) -> None:
            name = "first step" if not seen else "last step"
            seen[name] = (step.grads.detach(), (step.after - step.before).detach())

        self._adapt(support, watch)
        return {"update": update_by_gradient(seen)} if seen else {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Weights that were saved while the initialization was called `prior` still load."""
        if prefix + "prior" in state_dict:
            state_dict[prefix + "initialization"] = state_dict.pop(prefix + "prior")
        super()._load_from_state_dict(state_dict, prefix, *args)
