"""Agent: what every meta-learner is, and the settings all of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from agents.charts import Chart
from fewshot_env.episode import Episode, Split, TaskSpec

Count = Annotated[int, Field(le=10**6)]
"""A setting that counts: more than any machine bears is refused before it is tried."""


class AgentConfig(BaseModel):
    """Settings of an agent. Subclasses add theirs; every default lives once and has its sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    meta_batch: Count = Field(
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

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """The paper's settings for such tasks, where they differ from the field defaults."""
        return {}


class Agent(nn.Module, ABC):
    """A meta-learner: `adapt` on the support, `predict` on the query, learn with `meta_update`.

    In train mode (`agent.train()`) predictions carry their graph, which `meta_update` uses; in eval mode
    no graph is kept. Subclasses define `adapt` and `predict`; `meta_update` suits any whose predictions
    are differentiable in their parameters.
    """

    Config: ClassVar[type[AgentConfig]] = AgentConfig
    learns: ClassVar[bool] = True
    """False for an agent without meta-training, which `fsl run` then skips."""

    stackable: ClassVar[bool] = False
    """True where every parameter has independent runs as its first axis, so that they can be stacked (agents.engine.stack)."""

    def __init__(self, spec: TaskSpec, config: AgentConfig) -> None:
        super().__init__()
        self.spec = spec
        self.config = config
        self.runs = 1
        self.reduce: Callable[[list[Tensor]], None] = _alone
        """Sums tensors over the processes that share a meta-batch, in place."""
        self._optimizer: torch.optim.Optimizer | None = None
        self._sums: Tensor | None = None

    @property
    def at_once(self) -> int | None:
        """Tasks of a meta-batch worth computing at once; None: all. The rest follows through `accumulate`."""
        return None

    @abstractmethod
    def adapt(self, support: Split) -> Any:
        """Learn from the support of B tasks; pure: it never changes the agent.

        support: x [B, S, *in_shape], y [B, S] or [B, S, 1]. S = 0 gives the prior. What is returned is
        the agent's own affair; `predict` takes it.
        """

    @abstractmethod
    def predict(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Answer query items [B, Q, *in_shape]: logits [B, Q, n_way] or values [B, Q, 1]."""

    def meta_update(self, predictions: Tensor, query_y: Tensor) -> dict[str, float]:
        """One outer step on marked predictions: sum of task losses, backward, clip, Adam (Algorithm 1, line 11).

        Tasks given to `accumulate` since the last step are part of it. Returns "loss" and "score" (means over tasks)
        and "grad_norm" (before clipping). A step whose loss or gradient is not finite changes nothing and is
        reported as "skipped" = 1.
        """
        self.accumulate(predictions, query_y)
        return self.meta_step()[0]

    def accumulate(self, predictions: Tensor, query_y: Tensor) -> None:
        """Add the gradient of one part of the meta-batch; the graph of its predictions is used up."""
        if self._sums is None:
            self.optimizer.zero_grad(set_to_none=True)
        losses = self.spec.loss(predictions, query_y)
        scores = self.spec.score(predictions.detach(), query_y)
        sums = torch.stack([losses.detach(), scores, torch.ones_like(scores)]).view(3, self.runs, -1).sum(2)
        self._sums = sums if self._sums is None else self._sums + sums
        losses.sum().backward()

    def meta_step(self) -> list[dict[str, float]]:
        """Clip and take the step that `accumulate` prepared; what `meta_update` returns, for each run."""
        assert self._sums is not None, "there is nothing to learn from: call accumulate first"
        parameters = [p for p in self.parameters() if p.grad is not None]
        grads = [p.grad for p in parameters if p.grad is not None]
        self.reduce([*grads, self._sums])
        (losses, scores, tasks), self._sums = self._sums, None
        by_run = torch.stack([torch.linalg.vector_norm(g.reshape(self.runs, -1), dim=1) for g in grads])
        norms = by_run.square().sum(0).sqrt()
        if self.config.outer_clip_norm is not None:
            factor = (self.config.outer_clip_norm / (norms + 1e-6)).clamp(max=1)
            for g in grads:
                g.mul_(factor.view(-1, *[1] * (g.dim() - 1)) if self.runs > 1 else factor.squeeze(0))
        columns = zip((losses / tasks).tolist(), (scores / tasks).tolist(), norms.tolist(), strict=True)
        rows = [{"loss": loss, "score": score, "grad_norm": norm} for loss, score, norm in columns]
        sound = [math.isfinite(row["loss"] + row["grad_norm"]) for row in rows]
        if any(sound):
            with self._untouched(parameters, [r for r, is_sound in enumerate(sound) if not is_sound]):
                self.optimizer.step()
        return [row | {"skipped": float(not is_sound)} for row, is_sound in zip(rows, sound, strict=True)]

    @contextmanager
    def _untouched(self, parameters: list[nn.Parameter], runs: list[int]) -> Iterator[None]:
        """Keep some runs' parameters, and their moments in Adam, as they are (a new moment begins at zero)."""
        kept = []
        for p in parameters if runs else ():
            state = self.optimizer.state.get(p, {})
            kept += [(p.data, p.data[runs].clone())]
            kept += [(v, v[runs].clone()) for v in state.values() if isinstance(v, Tensor) and v.dim()]
            p.grad[runs] = 0  # type: ignore[index]
        yield
        for whole, part in kept:
            whole[runs] = part

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all parameters, made when first needed."""
        if self._optimizer is None:
            if not any(True for _ in self.parameters()):
                raise ValueError(f"{type(self).__name__} has no parameters to learn; set learns = False in its class")
            self._optimizer = torch.optim.Adam(self.parameters(), lr=self.config.outer_lr, fused=True)
        return self._optimizer

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Answer one observation of the plain environment: labels [Q] or values [Q, 1].

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

    def distributions(self) -> dict[str, Tensor]:
        """Learned quantities worth a histogram, by name."""
        return {}

    def trajectory(self, support: Split) -> list[Any]:
        """What `predict` takes, before the first inner step, after each of them, and last as `adapt` gives it."""
        return [self.adapt(support.empty()), self.adapt(support)]

    def embed(self, adapted: Any, x: Tensor) -> Tensor | None:
        """Features [B, S, F] of items x [B, S, *in_shape] worth a look in a projector, if there are any."""
        return None

    def charts(self, support: Split) -> dict[str, Chart]:
        """Curves that show what was learned, by name; `support` holds some validation tasks."""
        return {}

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs: tensors and plain types only."""
        return {"weights": self.state_dict(), "optimizer": self.optimizer.state_dict() if self.learns else None}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave; raises RuntimeError or KeyError where it belongs to another agent."""
        self.load_state_dict(state["weights"])
        if self.learns and state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])


def _alone(tensors: list[Tensor]) -> None:
    """The sum over one process."""
