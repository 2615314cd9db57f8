"""NeuralAgent: an agent around a base learner, and the statistics that batch normalization uses for the query."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from agents.base import Agent, AgentConfig, BoundedInt
from agents.networks import Encoder, FeatureBody, Network, conv4_size, make_body
from fewshot_env import plugins
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class NeuralConfig(AgentConfig):
    """Settings of the base learner."""

    network: str = Field(
        "auto",
        description="base learner: auto (Conv4 for images, the MLP for vectors), mlp, conv4, resnet12, resnet18, "
        "torchvision:NAME, timm:NAME, or module:factory, where factory(in_shape) gives an nn.Module with features "
        "[S, F]",
    )
    network_weights: str = Field(
        "none",
        description="first weights of a network other than mlp and conv4: none (drawn), default (the library's "
        "pretrained ones), or a file (.safetensors, or a state dict of torch.save)",
    )
    mismatched_weights: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what to do with weights of that file that do not fit the network"
    )
    widths: tuple[Annotated[BoundedInt, Field(ge=1)], ...] = Field(
        (64, 160, 320, 640), min_length=1, max_length=4, description="filters of ResNet-12's blocks"
    )
    hidden: tuple[Annotated[BoundedInt, Field(ge=1)], ...] = Field(
        (40, 40), min_length=1, description="ReLU layers of the MLP (vector inputs)"
    )
    filters: BoundedInt = Field(64, ge=1, description="filters per convolution of Conv4 (image inputs)")
    padding: int = Field(
        0,
        ge=0,
        le=1,
        description="padding of Conv4's convolutions: 0 published (576 features), 1 Snell/Chen (1600); "
        "images below 46x46 get 1",
    )
    body: Literal["adapted", "learned", "frozen"] = Field(
        "adapted",
        description="the network below its head: adapted (changes on every task), learned (changes in meta-training "
        "only, and tasks change the head), or frozen (keeps its first weights)",
    )
    bn: Literal["transductive", "support", "running"] = Field(
        default_factory=lambda data: "running" if data.get("body") == "frozen" else "transductive",
        description="statistics that batch normalization uses for the query: the whole query's (the paper's code), "
        "the support's, or running ones from meta-training or the pretrained network (worth about 3 points: never "
        "compare across modes)",
        json_schema_extra={"default_in_words": "transductive; running where body is frozen"},
    )
    at_once: BoundedInt | None = Field(
        None, ge=1, description="tasks computed at once; default all, but Conv4 on a CPU takes them one by one"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: Conv4's convolutions in bfloat16; not recommended (docs/results/speed.md)"
    )
    bn_momentum: float = Field(
        0.1, gt=0, le=1, description="share of the newest batch in running statistics (published: 1)"
    )

    @field_validator("network", mode="before")
    @classmethod
    def _name_of_factory(cls, network: Any) -> Any:
        """A factory itself may be given from Python; settings hold its name."""
        return plugins.name_of(network) if isinstance(network, Callable) else network  # type: ignore[arg-type]

    @field_validator("network_weights")
    @classmethod
    def _absolute(cls, weights: str) -> str:
        """A file is found again from another folder."""
        return weights if weights in ("none", "default") else str(Path(os.path.expanduser(weights)).absolute())

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """The paper's Conv4 has no padding; images below 46x46, which it has none of, need it."""
        return {"padding": 1} if len(spec.in_shape) == 3 and min(conv4_size(spec.in_shape, 0)) < 1 else {}


@dataclass(frozen=True)
class Adapted:
    """Adapted weights [B, P], support losses before each step [B, T], statistics for the query [B, M] or None.

    norms: of each step's gradient and update [B, T, 2], where the adaptation was watched (`trajectory`).
    """

    params: Tensor
    losses: Tensor
    stats: Tensor | None
    norms: Tensor | None = None

    def of_run(self, run: int, runs: int) -> Adapted:
        """The part of one of several runs, which lie one after the other."""
        tasks = len(self.params) // runs
        part = slice(run * tasks, (run + 1) * tasks)
        return Adapted(self.params[part], self.losses[part], None if self.stats is None else self.stats[part])


class NeuralAgent(Agent):
    """Holds the body of the base learner and its running statistics, and predicts with adapted weights."""

    Config: ClassVar[type[AgentConfig]] = NeuralConfig
    config: NeuralConfig

    encodes: ClassVar[tuple[str, ...]] = ("learned", "frozen")
    """Settings of `body` with which an encoder of its own gives the features, and `body` is that of a head alone."""

    def __init__(self, spec: TaskSpec, config: NeuralConfig) -> None:
        super().__init__(spec, config)
        backbone = make_body(
            config.network, spec.in_shape, config.hidden, config.filters, config.padding, config.precision == "bf16",
            config.widths, config.network_weights, config.mismatched_weights == "leave_out",
        )  # fmt: skip
        self.backbone = backbone
        self.encoder = Encoder(backbone, config.body == "frozen") if config.body in self.encodes else None
        self.body = backbone if self.encoder is None else FeatureBody(backbone.n_features)
        self.register_buffer("running", backbone.initial_stats())
        for name, value in backbone.constants().items():
            self.register_buffer(_buffer_name(name), value)
        self._seen: Tensor | None = None
        """Since the last outer step: number of tasks, and the sum of their queries' statistics [1 + M]."""

    running: Tensor
    net: Network
    """The base learner that tasks are adapted with; subclasses make it."""

    @property
    def at_once(self) -> int | None:
        """Tasks of a meta-batch worth computing at once: as configured, else all (None), or 1."""
        return self.config.at_once or (None if self.backbone.batched(self.running.device) else 1)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; the base learner's constants are those that were saved."""
        result = super().load_state_dict(state_dict, strict, assign)
        self.backbone.set_constants({name: getattr(self, _buffer_name(name)) for name in self.backbone.constants()})
        return result

    def encode(self, support: Split) -> tuple[Split, Tensor | None]:
        """What tasks are adapted on: the support, with features for items where an encoder gives them.

        With the features come the statistics [B, M] for the query, where they are those of the support.
        """
        encoder, x = self.encoder, support.x
        if encoder is None:
            return support, None
        stats = self.stats_while_adapting(len(x))
        if not x.shape[1]:
            return replace(support, x=x.new_zeros(len(x), 0, self.backbone.n_features)), stats
        if self._independent():
            return replace(support, x=encoder.once(x, self.running if self.backbone.n_stats else None)), stats
        if self.config.bn == "support" and self.backbone.n_stats:
            features, stats = encoder.with_statistics(x)
            return replace(support, x=features), stats
        return replace(support, x=encoder.features(x, stats)), stats

    def predict_with(self, net: Network, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Predictions of `net` with adapted weights, normalized as `config.bn` says."""
        if self.encoder is None and adapted.stats is None and not self._gathers():
            return net.predict(adapted.params, query_x)
        return net.head(adapted.params[:, net.n_body :], self.query_features(net, adapted, query_x))

    def query_features(self, net: Network, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Features [B, Q, F] that the head of `net` reads; in training, running statistics are gathered."""
        encoder = self.encoder
        if self._gathers():
            features, seen = (
                net.features_and_statistics(adapted.params, query_x)
                if encoder is None
                else encoder.with_statistics(query_x)
            )
            total = torch.cat([seen.new_full((1,), len(seen)), seen.detach().sum(0)])
            self._seen = total if self._seen is None else self._seen + total
            return features
        if encoder is None:
            return net.features(adapted.params, query_x, adapted.stats)
        if self._independent():
            return encoder.once(query_x, self.running if self.backbone.n_stats else None)
        return encoder.features(query_x, adapted.stats)

    def _gathers(self) -> bool:
        """Whether the query's statistics are gathered for running ones."""
        frozen = self.config.body == "frozen"
        return self.training and self.config.bn == "running" and self.backbone.n_stats > 0 and not frozen

    def _independent(self) -> bool:
        """Whether the features of an item are always the same: a frozen encoder, normalized by fixed statistics."""
        return self.config.body == "frozen" and (self.config.bn == "running" or not self.backbone.n_stats)

    def stats_while_adapting(self, tasks: int) -> Tensor | None:
        """Statistics [B, M] for the support: running ones in eval mode if so configured, else None (its own)."""
        if self.config.bn == "running" and not self.training and self.backbone.n_stats:
            return self.running.expand(tasks, -1)
        return None

    def stats_for_query(
        self, net: Network, params: Tensor, support: Split, encoded: Tensor | None = None
    ) -> Tensor | None:
        """Statistics [B, M] for the query; None: those of the query itself (also where the support is empty).

        encoded: what `encode` gave beside the features, which it is where an encoder gives them.
        """
        if self.encoder is not None:
            return encoded
        if self.config.bn == "support" and support.x.shape[1] and net.n_stats:
            return net.features_and_statistics(params, support.x)[1]
        return self.stats_while_adapting(len(params))

    def batch_statistics(self) -> list[Tensor]:
        """The statistics of the predicted queries since the last outer step: their number, and their sum."""
        seen, self._seen = self._seen, None
        return [] if seen is None else [seen]

    def update_statistics(self, sums: list[Tensor]) -> None:
        """Move the running statistics towards the mean of those of this step's queries."""
        self.running.lerp_(sums[0][1:] / sums[0][0], self.config.bn_momentum)

    def inspect(self, adapted: Adapted) -> dict[str, float]:
        """Mean support loss before each inner step: "loss_0", "loss_1", ...; "grad_norm_0", ... where known."""
        row = {f"loss_{t}": float(v) for t, v in enumerate(adapted.losses.mean(0))}
        if adapted.norms is not None:
            for t, (grad, update) in enumerate(adapted.norms.mean(0).tolist()):
                row |= {f"grad_norm_{t}": grad, f"update_norm_{t}": update}
        return row

    def inspect_runs(self, adapted: Adapted, runs: int) -> list[dict[str, float]]:
        """The same numbers for all runs at once, where a class does not say others."""
        if type(self).inspect is not NeuralAgent.inspect or adapted.norms is not None:
            return super().inspect_runs(adapted, runs)
        means = adapted.losses.unflatten(0, (runs, -1)).mean(1).tolist()
        return [{f"loss_{t}": loss for t, loss in enumerate(row)} for row in means]

    def embed(self, adapted: Adapted, x: Tensor) -> Tensor:
        """The features [B, S, F] that the head reads."""
        return self.query_features(self.net, adapted, x)


def verify_statistics(asked: str | None, trained: Mapping[str, Any]) -> None:
    """Raise FewShotError where running statistics are asked for, and an agent trained with these settings has none."""
    if asked == "running" and trained.get("bn") != "running" and trained.get("body") != "frozen":
        raise FewShotError("agent.bn=running needs running statistics, which this run did not gather; train with it")


def _buffer_name(constant: str) -> str:
    """The name of the agent's buffer that holds a constant of the base learner (buffers have no dots)."""
    return "constant_" + constant.replace(".", "_")
