"""The meta-gradient of a part of a meta-batch in one native call: inner loop, query loss and both backward passes.

Where a base learner is a small MLP, calls cost more than arithmetic. An update rule that says its step natively
(`NativeRule`) gets a kernel that runs everything of agents.engine.inner_loop, the query loss and their derivatives
(agents/kernels/inner_loop.h). What it computes is what `adapt`, `predict` and `meta_gradient` do, which stay the
reference, and do the work where there is no compiler, on a GPU, and for everything else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from agents import kernels
from agents.networks.flat import Shapes
from fewshot_env.episode import Episode


@dataclass(frozen=True)
class NativeStep:
    """A rule's step as a kernel takes it.

    kernel: its name. numbers: the rule's numbers. parameters: its tensors [runs, n], or [1, n] for constants; each is
    followed by where its gradient goes. None stands for a tensor that the rule does without.
    """

    kernel: str
    numbers: tuple[float, ...] = ()
    parameters: tuple[Tensor | None, ...] = ()


class NativeRule(Protocol):
    """An update rule that has a kernel."""

    def native_step(self) -> NativeStep | None:
        """Its step; None where its settings have no kernel."""
        ...


def native_step(rule: object) -> NativeStep | None:
    """A rule's step, where it has a kernel that computes what it does: its class replaces nothing after saying so."""
    order = type(rule).__mro__
    declared = next((i for i, cls in enumerate(order) if "native_step" in cls.__dict__), None)
    steps = {"__call__", "forward", "init"}
    if declared is None or any(steps & cls.__dict__.keys() for cls in order[:declared]):
        return None
    return cast(NativeRule, rule).native_step()


@dataclass(frozen=True)
class NativeResult:
    """Of B tasks: adapted weights [B, P], losses before each step [B, T], query losses [B], predictions [B, Q, N]."""

    adapted: Tensor
    inner_losses: Tensor
    losses: Tensor
    predictions: Tensor


def meta_gradient(
    initialization: nn.Parameter,
    shapes: Shapes,
    rule: NativeStep,
    episode: Episode,
    steps: int,
    first_order: bool,
    inner_clip: float | None,
    task_clip: float | None,
) -> NativeResult:
    """Add the meta-gradient of the summed query losses to .grad of the initialization and of the rule's parameters.

    Args:
        initialization: [runs, P]; tasks are ordered by run.
        shapes: of an MLP: (weight, bias) by layer, head included.
        rule: the update rule.
        episode: B tasks; answers are values, or labels.
        steps: T.
        first_order: whether gradients inside the update are constants.
        inner_clip: bound on each element of inner gradients.
        task_clip: bound on each element of each task's gradient of the initialization.
    """
    support, query = episode.support, episode.query
    like, classes = initialization, not query.labels.is_floating_point()
    (tasks, rows), queries = support.x.shape[:2], query.x.shape[1]
    sizes = _sizes(tuple(shapes.values()))
    tensors = [t.to(like.dtype).contiguous() for t in (support.x, support.labels, query.x, query.labels)]
    adapted, losses = like.new_empty(tasks, like.shape[1]), like.new_empty(tasks, steps if rows else 0)
    query_losses, predictions = like.new_empty(tasks), like.new_empty(tasks, queries, int(sizes[-1]))
    of_rule: list[Tensor | None] = []
    for p in rule.parameters:
        value = None if p is None else p.detach().to(like.dtype).expand(len(like), -1).contiguous()
        of_rule += [value, _grad(p) if isinstance(p, nn.Parameter) else None]
    kernels.call(
        rule.kernel, initialization.detach(), *tensors, _grad(initialization), adapted, losses, query_losses,
        predictions, sizes,
        len(sizes) - 1, tasks, len(initialization), rows, queries, int(classes), losses.shape[1], int(first_order),
        float(inner_clip or 0), float(task_clip or 0), *rule.numbers, *of_rule,
    )  # fmt: skip
    return NativeResult(adapted, losses, query_losses, predictions)


def _grad(p: nn.Parameter) -> Tensor:
    """Where a parameter's gradient is summed; zeros at first."""
    if p.grad is None:
        p.grad = torch.zeros_like(p)
    return p.grad


@functools.cache
def _sizes(shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """Units of every layer, from the inputs on."""
    return torch.tensor([shapes[0][1], *(shape[0] for shape in shapes[::2])])
