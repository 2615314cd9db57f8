"""The outer step (Algorithm 1, line 11): the meta-gradient of a meta-batch, taken whole or in parts, and the update.

The method owns its meta-gradient (`Agent.meta_gradient`); everything around it is here: zeroing, parts, processes, runs
side by side, clipping, steps that are not finite, and the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fewshot_env.episode import Episode, TaskSpec
from fewshot_env.errors import FewShotError

Sum = Callable[[list[Tensor]], None]
"""Sums tensors over the processes that share a meta-batch, in place."""


class Learner(Protocol):
    """What an outer step needs of an agent (agents.base.Agent)."""

    spec: TaskSpec
    runs: int

    @property
    def outer_clip_norm(self) -> float | None:
        """Bound on the norm of the whole meta-gradient."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is meta-learned."""
        ...

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the outer loop."""
        ...

    def meta_gradient(self, adapted: Any, predictions: Tensor, query_y: Tensor) -> Tensor:
        """Add the meta-gradient of B tasks to .grad; return their losses [B]."""
        ...

    def learn_at_once(self, task: Episode) -> tuple[Any, Tensor, Tensor]:
        """Adapt, predict and add the meta-gradient in one go."""
        ...

    def batch_statistics(self) -> list[Tensor]:
        """Sums over the tasks of this step, besides gradients."""
        ...

    def update_statistics(self, sums: list[Tensor]) -> None:
        """Take in what `batch_statistics` gave, summed over processes."""
        ...


class OuterStep:
    """Outer steps of one agent: `add` every part of a meta-batch, then `finish`.

    Where the agent holds several runs (agents.engine.stack), tasks are ordered by run and each run has its own norm,
    clipping and skipped steps.
    """

    def __init__(self, agent: Learner) -> None:
        self.agent = agent
        self.optimizer = agent.make_optimizer()
        self._sums: Tensor | None = None
        """Of losses and scores since the last step [2, runs], over `_tasks` tasks of each run."""
        self._tasks = 0.0

    def add_at_once(self, task: Episode) -> Any:
        """Add the meta-gradient of one part of an agent that `learns_at_once`; returns what `adapt` would have.

        task: support and query of B tasks with answers.
        """
        if self._sums is None:
            self.optimizer.zero_grad(set_to_none=True)
        adapted, losses, scores = self.agent.learn_at_once(task)
        self._add(losses, scores)
        return adapted

    def add(self, adapted: Any, predictions: Tensor, query_y: Tensor) -> None:
        """Add the meta-gradient of one part of the meta-batch.

        Args:
            adapted: what `adapt` returned for these B tasks.
            predictions: [B, Q, N], in train mode with their graph, which is used up.
            query_y: the query's answers, [B, Q] or [B, Q, N].

        Raises:
            FewShotError: where `meta_gradient` does not return one loss per task.
        """
        agent = self.agent
        if self._sums is None:
            self.optimizer.zero_grad(set_to_none=True)
        scores = agent.spec.score(predictions.detach(), query_y)
        losses = agent.meta_gradient(adapted, predictions, query_y).detach()
        if losses.shape != scores.shape:
            raise FewShotError(
                f"{type(agent).__name__}.meta_gradient returns {tuple(losses.shape)}, but must return the losses "
                f"of the tasks, [B] = {tuple(scores.shape)}"
            )
        self._add(losses, scores)

    def _add(self, losses: Tensor, scores: Tensor) -> None:
        """Add up what the row of the log needs, by run."""
        runs = self.agent.runs
        sums = torch.stack([losses, scores]).view(2, runs, -1).sum(2)
        self._sums, self._tasks = sums if self._sums is None else self._sums + sums, self._tasks + len(losses) / runs

    def finish(self, reduce: Sum | None = None) -> list[dict[str, float]]:
        """Sum over processes, clip, and take the step.

        Args:
            reduce: sums over the processes that share the meta-batch; None where there is one.

        Returns:
            For each run "loss" and "score" (means over tasks), "grad_norm" (before clipping), and "skipped": 1 where
            the loss or gradient was not finite, so that nothing of that run changed.
        """
        assert self._sums is not None, "there is nothing to learn from: call add first"
        agent = self.agent
        if reduce is not None:  # a parameter that this process's tasks did not use may have a gradient in another
            for p in agent.parameters():
                p.grad = torch.zeros_like(p) if p.grad is None and p.requires_grad else p.grad
        parameters = [p for p in agent.parameters() if p.grad is not None]
        grads = [p.grad for p in parameters if p.grad is not None]
        if not grads:
            self._sums, self._tasks = None, 0.0
            raise FewShotError(f"{type(agent).__name__}.meta_gradient left no gradient on any parameter; call backward")
        statistics = agent.batch_statistics()
        sums, tasks = self._sums, self._tasks
        self._sums, self._tasks = None, 0.0
        if reduce is not None:
            count = sums.new_tensor([tasks])
            reduce([*grads, sums, count, *statistics])
            tasks = float(count)
        by_run = [torch.linalg.vector_norm(g.reshape(agent.runs, -1), dim=1) for g in grads]
        norms = by_run[0] if len(by_run) == 1 else torch.linalg.vector_norm(torch.stack(by_run), dim=0)
        self._clip(grads, norms)
        columns = torch.cat([sums / tasks, norms.unsqueeze(0)]).T.tolist()
        rows = [{"loss": loss, "score": score, "grad_norm": norm} for loss, score, norm in columns]
        finite = [math.isfinite(row["loss"] + row["grad_norm"]) for row in rows]
        if any(finite):
            with self._unchanged(parameters, [r for r, is_finite in enumerate(finite) if not is_finite]):
                self.optimizer.step()
        if statistics and all(finite):
            agent.update_statistics(statistics)
        return [row | {"skipped": float(not is_finite)} for row, is_finite in zip(rows, finite, strict=True)]

    def discard(self) -> None:
        """Forget what was added since the last step."""
        self._sums, self._tasks = None, 0.0
        self.agent.batch_statistics()
        self.optimizer.zero_grad(set_to_none=True)

    def _clip(self, grads: Iterable[Tensor], norms: Tensor) -> None:
        """Scale every run's gradient down to the bound on its norm."""
        bound = self.agent.outer_clip_norm
        if bound is None:
            return
        factor = (bound / (norms + 1e-6)).clamp(max=1)
        for g in grads:
            g.mul_(factor.view(-1, *[1] * (g.dim() - 1)) if self.agent.runs > 1 else factor.squeeze(0))

    @contextmanager
    def _unchanged(self, parameters: list[nn.Parameter], runs: list[int]) -> Iterator[None]:
        """Keep some runs' parameters, and their state in the optimizer, as they are (a new moment begins at zero)."""
        kept = []
        for p in parameters if runs else ():
            state = self.optimizer.state.get(p, {})
            kept += [(p.data, p.data[runs].clone())]
            kept += [(v, v[runs].clone()) for v in state.values() if isinstance(v, Tensor) and v.dim()]
            p.grad[runs] = 0  # type: ignore[index]
        yield
        for whole, part in kept:
            whole[runs] = part
