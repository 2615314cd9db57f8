"""GradientBased: a learned prior adapted by an update rule (Algorithm 1). MAML, TURTLE and the LSTM are this."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, Count
from agents.charts import Chart, update_by_gradient
from agents.engine.inner_loop import Step, UpdateRule, Watch, inner_loop
from agents.networks.network import LinearHead, Net
from agents.networks.objectives import support_objective
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from fewshot_env.episode import Split, TaskSpec


class GradientBasedConfig(NeuralConfig):
    """Settings of the inner loop."""

    inner_steps: Count = Field(5, ge=1, description="T, updates per task in meta-training")
    eval_steps: Count | None = Field(
        None, ge=0, description="updates per task in validation and test; default inner_steps"
    )
    first_order: bool = Field(False, description="gradients inside the update are constants")
    clip: float | None = Field(
        None,
        gt=0,
        description="bound on each element of inner gradients and of each task's gradient of the prior, where T > 1",
    )

    @property
    def steps_at_eval(self) -> int:
        """Updates per task in validation and test."""
        return self.inner_steps if self.eval_steps is None else self.eval_steps


class GradientBased(NeuralAgent):
    """Base learner f_theta whose prior theta is meta-learned together with the rule's own parameters."""

    Config: ClassVar[type[AgentConfig]] = GradientBasedConfig
    config: GradientBasedConfig

    def __init__(self, spec: TaskSpec, config: GradientBasedConfig) -> None:
        super().__init__(spec, config)
        self.net = Net(self.body, LinearHead(self.body.n_features, spec.n_outputs), config.at_once)
        self.prior = nn.Parameter(self.net.init().unsqueeze(0))  # [runs, P]
        self.rule = self.make_rule(self.net)

    @abstractmethod
    def make_rule(self, net: Net) -> UpdateRule:
        """The method's update rule for weights of `net`; an nn.Module where it has parameters."""

    def adapt(self, support: Split) -> Adapted:
        """Fast weights after T updates from the prior (line 6 to 9); the prior itself where S = 0."""
        return self._watched(support, None)

    def _watched(self, support: Split, watch: Watch | None) -> Adapted:
        """`adapt`, with a look at every update."""
        config, tasks = self.config, support.x.shape[0]
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            params = self.prior.unsqueeze(1).expand(-1, tasks // self.runs, -1).reshape(tasks, -1)
            clip = config.clip if config.inner_steps > 1 else None
            if clip is not None and params.requires_grad:
                params.register_hook(lambda g: g.clamp(-clip, clip))
            steps = config.inner_steps if self.training else config.steps_at_eval
            adapted, losses = inner_loop(
                params,
                self.rule,
                support_objective(self.net, self.spec, support, self.stats_while_adapting(tasks)),
                steps if support.x.shape[1] else 0,
                config.first_order,
                clip,
                watch,
            )
            return Adapted(adapted, losses, self.stats_for_query(self.net, adapted, support))

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Predictions [B, Q, N] with the fast weights."""
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            return self.predict_with(self.net, adapted, query_x)

    def trajectory(self, support: Split) -> list[Adapted]:
        """The weights before every update and after the last, with the norms of gradients and updates on the way."""
        weights: list[Tensor] = []
        norms = [support.x.new_zeros(len(support.x), 0, 2)]

        def watch(step: Step) -> None:
            weights.append(step.before)
            both = torch.stack([step.grads, step.after - step.before], 1)
            norms.append(torch.linalg.vector_norm(both.detach(), dim=-1).unsqueeze(1))

        last = self._watched(support, watch)
        way = [*(Adapted(w, last.losses, self.stats_for_query(self.net, w, support)) for w in weights), last]
        seen = torch.cat(norms, 1)
        return [replace(a, losses=last.losses[:, :t], norms=seen[:, :t]) for t, a in enumerate(way)]

    def charts(self, support: Split) -> dict[str, Chart]:
        """What the rule did with the gradients that it met: the update by the gradient, at the first and last step."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def watch(step: Step) -> None:
            name = "first step" if not seen else "last step"
            seen[name] = (step.grads.detach(), (step.after - step.before).detach())

        self._watched(support, watch)
        return {"update": update_by_gradient(seen)} if seen else {}
