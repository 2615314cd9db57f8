"""Agent: what a method must say (`adapt`, `predict`) and may say, and the settings that all agents share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from agents.charts import Chart
from agents.engine.outer_step import OuterStep
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError, said
from fewshot_env.settings import SettingsModel

BoundedInt = Annotated[int, Field(le=10**6)]
"""A whole number of a setting: more than any machine bears is refused before it is tried."""


class AgentConfig(SettingsModel):
    """Settings of an agent. Subclasses add theirs; every setting has its default and its sentence here, once."""

    meta_batch: BoundedInt = Field(
        1, ge=1, description="tasks per outer step; their losses are summed (Algorithm 1, line 11)"
    )
    outer_lr: float = Field(0.001, gt=0, description="learning rate of Adam on the meta-parameters")
    outer_clip_norm: float | None = Field(None, gt=0, description="bound on the norm of the whole meta-gradient")

    @property
    def minibatch(self) -> int:
        """0: trained on episodes; m > 0: pre-trained on minibatches of m items."""
        return 0

    @property
    def tasks_per_step(self) -> int:
        """Tasks that an outer step takes; a minibatch counts as one."""
        return 1 if self.minibatch else self.meta_batch

    def for_run(self, outer_steps: int) -> AgentConfig:
        """These settings in a run of so many outer steps, for schedules that last as long."""
        return self

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """The paper's settings for such tasks, where they differ from the defaults."""
        return {}


def _verify_spec(spec: Any) -> None:
    if not isinstance(spec, TaskSpec):
        raise FewShotError(
            f"spec is a {type(spec).__name__}, but must be a TaskSpec: the unwrapped.task_spec of an environment"
        )


def paper_settings(cls: type[Agent], spec: TaskSpec, n_shot: int) -> dict[str, Any]:
    """The paper's settings of an agent's class for such tasks; raises FewShotError where the class fails."""
    _verify_spec(spec)
    try:
        return cls.Config.paper(spec, n_shot)
    except FewShotError:
        raise
    except Exception as error:  # of a custom agent
        raise FewShotError(f"{cls.__qualname__}.Config.paper fails: {said(error)}") from error


class Agent(nn.Module, ABC):
    """A meta-learner: `adapt` on the support, `predict` on the query, learn from what was predicted.

    A method defines `adapt` and `predict`. Its meta-gradient is `meta_gradient`, by default that of the summed query
    losses; the optimizer is `make_optimizer`, by default Adam. Everything else about an outer step belongs to
    agents.engine.outer_step.OuterStep.

    In train mode (`agent.train()`) what `adapt` and `predict` return carries its graph; in eval mode it carries none.
    This class sees to it: a method need not set the grad mode.

    Args:
        spec: what the tasks are: kind, shape of an item, number of outputs.
        config: the settings, an instance of `Config`.

    Raises:
        FewShotError: where `spec` or `config` is something else, or a subclass overrides something that training would
            not call.

    Example:
        >>> agent = agents.make("maml", env.unwrapped.task_spec).train()
        >>> adapted = agent.adapt(task.support)
        >>> predictions = agent.predict(adapted, task.query.x)
        >>> row = agent.meta_update(predictions, query_y)
    """

    Config: ClassVar[type[AgentConfig]] = AgentConfig
    learns: bool = True
    """False for an agent without meta-training, which `fsl run` then skips."""

    differentiates_adaptation: ClassVar[bool] = True
    """False: `adapt` runs without a graph in train mode too, for methods whose meta-gradient does not need one."""

    stackable: ClassVar[bool] = False
    """True where every parameter has independent runs as its first axis, so that seeds train side by side
    (agents.engine.stack). A subclass that changes what is computed must say so itself."""

    answers_alone: ClassVar[bool] = False
    """True where `predict` answers every query item as if it were the only one, batch normalization over the query
    (agent.bn=transductive) apart. A subclass that changes `predict` must say so itself."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set the grad mode around what a subclass defines; drop promises that hold for what it replaces no more."""
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        for name in _GRAPHED:
            owner = next(c for c in order if name in c.__dict__)
            if owner is cls or not issubclass(owner, Agent):  # a mixin's method is one of this class
                setattr(cls, name, _with_grad_mode(name, owner.__dict__[name]))
        declared = next(i for i, c in enumerate(order) if "stackable" in c.__dict__)
        if any(_COMPUTES & c.__dict__.keys() for c in order[:declared]):
            cls.stackable = False
        declared = next(i for i, c in enumerate(order) if "answers_alone" in c.__dict__)
        if any(_ANSWERS & c.__dict__.keys() for c in order[:declared]):
            cls.answers_alone = False

    def __init__(self, spec: TaskSpec, config: AgentConfig) -> None:
        super().__init__()
        for name, instead in _BYPASSED.items():
            if getattr(type(self), name, None) is not getattr(Agent, name, None):
                raise FewShotError(f"{type(self).__name__} overrides {name}, which training does not call; {instead}")
        _verify_spec(spec)
        if not isinstance(config, self.Config):
            raise FewShotError(
                f"{type(self).__name__} takes its settings as {self.Config.__name__}(...), but got "
                f"{type(config).__name__}; agents.make builds both"
            )
        self.spec = spec
        self.config = config
        self.learns = self.learns_with(spec, config)
        self.name = f"{type(self).__module__}:{type(self).__qualname__}"
        """The registered name, or "module:Class"."""
        self.runs = 1
        self._outer: OuterStep | None = None

    @classmethod
    def learns_with(cls, spec: TaskSpec, config: AgentConfig) -> bool:
        """Whether meta-training leaves anything with these settings: `learns`, unless a class says more."""
        return cls.learns

    @property
    def at_once(self) -> int | None:
        """Tasks of a meta-batch worth computing at once; None: all. The others follow as further parts."""
        return None

    @property
    def outer_clip_norm(self) -> float | None:
        """Bound on the norm of the whole meta-gradient, or None."""
        return self.config.outer_clip_norm

    @abstractmethod
    def adapt(self, support: Split) -> Any:
        """Learn from the support of B tasks, without changing the agent.

        Args:
            support: x [B, S, *in_shape] float32; y int64 [B, S] in [0, N) or float32 [B, S, N]. S = 0 asks for the
                state before any adaptation.

        Returns:
            Whatever `predict` needs. Tasks must not influence each other.
        """

    @abstractmethod
    def predict(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Predict query items.

        Args:
            adapted: what `adapt` returned for the same B tasks.
            query_x: [B, Q, *in_shape] float32.

        Returns:
            Scores (logits) [B, Q, N] for classification, values [B, Q, N] for regression with N outputs.
        """

    def meta_gradient(self, adapted: Any, predictions: Tensor, query_y: Tensor) -> Tensor:
        """Add the meta-gradient of B tasks to the parameters' .grad.

        The default is the gradient of the summed query losses (Algorithm 1, line 11). It is called once for each part
        of a meta-batch, in every process; what it adds is summed.

        Args:
            adapted: what `adapt` returned for these tasks.
            predictions: [B, Q, N], with their graph.
            query_y: the query's answers, [B, Q] or [B, Q, N].

        Returns:
            The tasks' losses [B], for the log and to find steps that are not finite.
        """
        losses = self.spec.loss(predictions, query_y)
        losses.sum().backward()
        return losses

    @property
    def learns_at_once(self) -> bool:
        """Whether there is a `learn_at_once`, quicker than `adapt`, `predict` and `meta_gradient`, at this moment."""
        return False

    def learn_at_once(self, task: Episode) -> tuple[Any, Tensor, Tensor]:
        """Adapt to B tasks, predict their queries, and add the meta-gradient to the parameters' .grad, in one go.

        Args:
            task: support and query with answers.

        Returns:
            What `adapt` would have returned, without a graph, and the tasks' query losses [B] and scores [B].
        """
        raise NotImplementedError

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the outer loop: Adam with `outer_lr` over all parameters."""
        return torch.optim.Adam(self.parameters(), lr=self.config.outer_lr, fused=True)

    def batch_statistics(self) -> list[Tensor]:
        """Sums over the tasks of this outer step, besides gradients, that all processes share."""
        return []

    def update_statistics(self, sums: list[Tensor]) -> None:
        """Take in what `batch_statistics` gave, summed over processes, after a step that was taken."""

    def meta_update(self, predictions: Tensor, query_y: Tensor, adapted: Any = None) -> dict[str, float]:
        """One outer step on a meta-batch, for a training loop of your own.

        Args:
            predictions: [B, Q, N] of `predict` in train mode.
            query_y: the query's answers, [B, Q] or [B, Q, N].
            adapted: what `adapt` returned; needed by methods with a meta-gradient of their own.

        Returns:
            "loss" and "score" (means over tasks), "grad_norm" (before clipping), and "skipped": 1 where the loss or the
            gradient was not finite, so that nothing changed. An agent that does not learn gives loss and score.

        Raises:
            FewShotError: where `adapted` is needed and missing.
        """
        if not self.learns:
            losses, scores = self.spec.loss(predictions, query_y), self.spec.score(predictions, query_y)
            return {"loss": float(losses.mean()), "score": float(scores.mean())}
        if adapted is None and type(self).meta_gradient is not Agent.meta_gradient:
            raise FewShotError(
                f"{type(self).__name__} has a meta-gradient of its own: call meta_update(predictions, query_y, adapted)"
            )
        self.outer.add(adapted, predictions, query_y)
        return self.outer.finish()[0]

    @property
    def outer(self) -> OuterStep:
        """The outer step with its optimizer, made when first needed."""
        if self._outer is None:
            if not any(True for _ in self.parameters()):
                raise ValueError(f"{type(self).__name__} has no parameters to learn; set learns = False in its class")
            for name in _BYPASSED.keys() & vars(self).keys():
                raise FewShotError(f"{type(self).__name__} sets {name}, which training does not use; {_BYPASSED[name]}")
            self._outer = OuterStep(self)
        return self._outer

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Answer one observation of the plain environment: labels [Q] or values [Q, N].

        The agent is used in eval mode, whatever its mode, and left as it was.
        """
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        task = Episode.from_obs({name: torch.as_tensor(value).unsqueeze(0) for name, value in obs.items()})
        task, mode = task.to(device), self.training
        self.eval()
        try:
            with torch.no_grad():
                predictions = task.restrict(self.predict(self.adapt(task.support), task.query.x))[0].cpu()
        finally:
            self.train(mode)
        answers = predictions.argmax(-1) if self.spec.kind == "classification" else predictions
        return np.asarray(answers.numpy())

    def inspect(self, adapted: Any) -> dict[str, float]:
        """Numbers about an adaptation worth logging; {"loss_0": .., ..}, by inner step, are drawn as curves."""
        return {}

    def inspect_runs(self, adapted: Any, runs: int) -> list[dict[str, float]]:
        """`inspect` of each of several runs, whose tasks lie one after the other in `adapted`."""
        return [self.inspect(adapted.of_run(run, runs)) for run in range(runs)]

    def distributions(self) -> dict[str, Tensor]:
        """Learned quantities worth a histogram, by name."""
        return {}

    def trajectory(self, support: Split) -> list[Any]:
        """What `predict` takes, before the first inner step, after each of them, and last as `adapt` gives it."""
        return [self.adapt(support.empty()), self.adapt(support)]

    def embed(self, adapted: Any, x: Tensor) -> Tensor | None:
        """Features [B, S, F] of items x [B, S, *in_shape] for TensorBoard's projector, or None."""
        return None

    def charts(self, support: Split) -> dict[str, Chart]:
        """Curves that show what was learned, by name; `support` holds some validation tasks."""
        return {}

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs: tensors and plain types only."""
        return {"weights": self.state_dict(), "optimizer": self.outer.optimizer.state_dict() if self.learns else None}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` gave; raises RuntimeError or KeyError where it belongs to another agent."""
        self.load_state_dict(state["weights"])
        if self.learns and state["optimizer"] is not None:
            self.outer.optimizer.load_state_dict(state["optimizer"])


_GRAPHED = {"adapt", "predict", "trajectory", "embed", "charts"}
"""Methods that carry a graph in train mode only."""

_COMPUTES = {
    "adapt", "predict", "meta_gradient", "make_rule", "make_optimizer", "state", "load_state", "batch_statistics",
    "update_statistics",
}  # fmt: skip
"""Methods that decide what is computed; written for one run unless their class says `stackable = True`."""

_ANSWERS = {"predict", "predict_with", "query_features"}
"""Methods that decide how a query is answered."""

_BYPASSED = {
    "meta_update": "override meta_gradient (what is learned from) or make_optimizer (how)",
    "accumulate": "override meta_gradient (what is learned from)",
    "meta_step": "override meta_gradient (what is learned from) or make_optimizer (how)",
    "optimizer": "override make_optimizer",
}


def _with_grad_mode(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with a graph in train mode, if the caller allows one, and without one in eval mode."""

    @wraps(method)
    def wrapped(self: Agent, *args: Any, **kwargs: Any) -> Any:
        graph = self.training and torch.is_grad_enabled() and (self.differentiates_adaptation or name != "adapt")
        with torch.set_grad_enabled(graph):
            return method(self, *args, **kwargs)

    return wrapped
