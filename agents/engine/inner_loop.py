"""Algorithm 1, lines 6 to 9: adapt the weights of B tasks for T steps with a given update rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from agents.engine.gradient_step import inner_gradient
from agents.engine.reparametrized import BeginsElsewhere
from agents.networks.objective import Objective


class UpdateRule(Protocol):
    """One inner step. State is passed, not kept; all tensors have one row per task."""

    def init(self, params: Tensor) -> Any:
        """The rule's state before the first step, for weights [B, P]."""
        ...

    def __call__(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: Any) -> tuple[Tensor, Any]:
        """New weights [B, P] and state from weights and gradients [B, P], losses [B] and the step number."""
        ...


class Step(NamedTuple):
    """One inner step as it was: weights before and after it and the gradient [B, P], the rule's state after it."""

    before: Tensor
    after: Tensor
    grads: Tensor
    state: Any


Watch = Callable[[Step], None]
"""Called after every inner step; may store what it needs."""


def inner_loop(
    params: Tensor,
    rule: UpdateRule,
    objective: Objective,
    steps: int,
    first_order: bool,
    inner_clip: float | None,
    watch: Watch | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `steps` updates from weights [B, P]; returns weights [B, P] and the loss before each step [B, T].

    first_order: the gradients that the rule sees are constants. inner_clip: bound on each gradient element.
    Where no graph is being recorded (eval mode), none is kept.
    """
    state: Any
    if isinstance(rule, BeginsElsewhere):
        params, state = rule.begin(params, objective.support)
    else:
        state = rule.init(params)
    losses = []
    for step in range(steps):
        grads, loss = inner_gradient(params, objective, first_order, step)
        if inner_clip is not None:
            grads = grads.clamp(-inner_clip, inner_clip)
        before = params
        params, state = rule(params, grads, loss, step, state)
        losses.append(loss)
        if watch is not None:
            watch(Step(before, params, grads, state))
    return params, torch.stack(losses, 1) if losses else params.new_zeros(params.shape[0], 0)
