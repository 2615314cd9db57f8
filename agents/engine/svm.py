"""The multi-class support vector machine of Crammer & Singer (2001), solved in its dual and differentiated there.

    min over alpha [S, N] of  1/2 tr(alpha^T K alpha) - tr(Y^T alpha),   rows of alpha sum to 0,   alpha <= C Y

K [S, S] are the items' inner products, Y their one-hot labels; class n's weights are sum_s alpha_sn z_s. With
beta = C Y - alpha every row of beta lies in a simplex of size C: accelerated projected gradients find which entries are
zero. For a given set of those the optimum solves a linear system; it is solved once more with its graph, which is
implicit differentiation at the optimum, exact up to the rounding of float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHECK_EVERY, MOST = 50, 4000
"""Projected steps between attempts to solve the linear system, and at most."""

CLOSE = 1e-9
"""How far from optimal a condition may be, relative to its terms."""


def svm_dual(products: Tensor, labels: Tensor, n_classes: int, penalty: float) -> Tensor:
    """alpha [B, S, N] for inner products [B, S, S] and labels [B, S]; differentiable in the products.

    Args:
        products: symmetric and positive definite (add something to the diagonal where items outnumber features).
        labels: int64 in [0, N).
        n_classes: N.
        penalty: C, the bound on an item's influence.
    """
    kernel = products.double()
    y = F.one_hot(labels, n_classes).to(kernel)
    if not bool(kernel.isfinite().all()):  # a diverged network: not a number, as its loss will be
        return (products.sum() * float("nan")) * y.to(products)
    with torch.no_grad():
        free = _free_entries(kernel.detach(), y, penalty)
    return _solve(kernel, y, penalty, free)[0].to(products)


def _free_entries(kernel: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Which entries of beta are not zero at the optimum [B, S, N]."""
    rate = 1 / torch.linalg.matrix_norm(kernel, 2).view(-1, 1, 1)
    beta = _project(penalty * y.mean(2, keepdim=True).expand_as(y), penalty)
    ahead, momentum = beta, 1.0
    for step in range(1, MOST + 1):
        new = _project(ahead - rate * (y - kernel @ (penalty * y - ahead)), penalty)
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        restart = ((ahead - new) * (new - beta)).sum((1, 2), keepdim=True) > 0  # momentum points uphill
        ahead = torch.where(restart, new, new + (momentum - 1) / after * (new - beta))
        beta, momentum = new, after
        if step % CHECK_EVERY == 0 and _is_optimal(kernel, y, penalty, beta > 0):
            break
    return beta > 0


def _project(points: Tensor, size: float) -> Tensor:
    """The nearest points of a simplex {v >= 0, sum v = size} to the rows of points [B, S, N]."""
    ordered = points.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - size
    ranks = torch.arange(1, points.shape[-1] + 1, device=points.device)
    support = (ordered * ranks > excess).sum(-1, keepdim=True)
    return (points - excess.gather(-1, support - 1) / support).clamp(min=0)


def _solve(kernel: Tensor, y: Tensor, penalty: float, free: Tensor) -> tuple[Tensor, Tensor]:
    """alpha [B, S, N], and every row's multiplier [B, S], at the optimum with these free entries of beta."""
    tasks, items, classes = y.shape
    size, rows = items * classes, torch.arange(items, device=y.device)
    of_free = free.flatten(1).to(kernel).unsqueeze(-1)  # [B, S N, 1]
    eye = torch.eye(classes, dtype=y.dtype, device=y.device)
    big = (kernel[:, :, None, :, None] * eye[None, None, :, None, :]).reshape(tasks, size, size)
    member = F.one_hot(rows.repeat_interleave(classes), items).to(kernel).expand(tasks, -1, -1)  # [B, S N, S]
    fixed = torch.eye(size, dtype=y.dtype, device=y.device)
    top = torch.cat([of_free * big + (1 - of_free) * fixed, of_free * member], 2)
    below = torch.cat([member.mT, member.new_zeros(tasks, items, items)], 2)
    flat = y.flatten(1).unsqueeze(-1)
    right = torch.cat([of_free * flat + (1 - of_free) * penalty * flat, flat.new_zeros(tasks, items, 1)], 1)
    solution = torch.linalg.solve(torch.cat([top, below], 1), right).squeeze(-1)
    return solution[:, :size].view_as(y), solution[:, size:]


def _is_optimal(kernel: Tensor, y: Tensor, penalty: float, free: Tensor) -> bool:
    """Whether these are the free entries at the optimum of every task."""
    try:
        alpha, multiplier = _solve(kernel, y, penalty, free)
    except RuntimeError:  # torch.linalg.LinAlgError: singular
        return False
    beta, slope = penalty * y - alpha, y - kernel @ alpha - multiplier.unsqueeze(-1)
    inside = beta >= -CLOSE * penalty
    downhill = slope >= -CLOSE * (1 + multiplier.abs().unsqueeze(-1))
    return bool((inside & (downhill | free)).all())
