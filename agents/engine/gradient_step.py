"""The gradient-step operator: the inner gradient as one autograd function.

Forward computes g = grad L(theta) and keeps no graph of it. Backward receives v and returns the
Hessian-vector product H v, computed anew, and the derivative of g . v by the items where these have a
graph (features of learned weights). Everything above it - gradient descent, TURTLE, the LSTM - is
ordinary autograd on weights, and memory grows with the inner steps by the weights and the rule's own
state alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.engine.heap import give_back_in_loop
from agents.networks.objective import Objective


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, params: Tensor, items: Tensor | None, objective: Objective, step: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(params)
        ctx.objective, ctx.step = objective, step
        grads, losses = _gradient(params, objective, step)
        ctx.mark_non_differentiable(losses)
        return grads, losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (params,) = ctx.saved_tensors
        by_items = None
        if ctx.needs_input_grad[1]:
            product, by_items = ctx.objective.vector_products(params.detach(), v)
        else:
            product = ctx.objective.hessian_vector(params.detach(), v)
        give_back_in_loop(ctx.step, params)
        return product, by_items, None, None


def inner_gradient(params: Tensor, objective: Objective, first_order: bool, step: int) -> tuple[Tensor, Tensor]:
    """Gradients [B, P] and losses [B] at params [B, P] of the inner step with this number; the losses are constants.

    The gradients are differentiable in params, and in items that have a graph (features of learned weights), but
    constants where first_order holds or autograd is off.
    """
    if first_order or not torch.is_grad_enabled():
        return _gradient(params.detach(), objective, step)
    items = objective.support.x
    grads, losses = _Gradient.apply(params, items if items.requires_grad else None, objective, step)
    return grads, losses


def _gradient(params: Tensor, objective: Objective, step: int) -> tuple[Tensor, Tensor]:
    found = objective.gradient(params)
    give_back_in_loop(step, params)
    return found
