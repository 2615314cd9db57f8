"""The multi-class support vector machine of Crammer & Singer (2001), solved in its dual and differentiated there.

    min over alpha [S, N] of  1/2 tr(alpha^T K alpha) - tr(Y^T alpha),   rows of alpha sum to 0,   alpha <= C Y

K [S, S] are the items' inner products, Y their one-hot labels; class n's weights are sum_s alpha_sn z_s. With
beta = C Y - alpha every row of beta lies in a simplex of size C: accelerated projected gradients find which entries are
zero. For a given set of those the optimum solves a linear system; it is solved once more with its graph, which is
implicit differentiation at the optimum, exact up to the rounding of float64.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger("fsl")

CHECK_EVERY, MOST = 50, 4000
"""Projected steps between attempts to solve the linear system, and at most."""

CLOSE = 1e-9
"""How far from optimal a condition may be, relative to its terms."""


def svm_dual(products: Tensor, labels: Tensor, n_classes: int, penalty: float) -> Tensor:
    """alpha [B, S, N] for inner products [B, S, S] and labels [B, S]; differentiable in the products.

    A task whose products are not finite, of a diverged network, gets what is not a number. Where the set of zeros is
    not found in MOST steps, which takes products that are nearly singular, a warning says so.

    Args:
        products: symmetric and positive definite (add something to the diagonal where items outnumber features).
        labels: int64 in [0, N).
        n_classes: N.
        penalty: C, the bound on an item's influence.
    """
    kernel = products.double()
    y = F.one_hot(labels, n_classes).to(kernel)
    good = kernel.isfinite().flatten(1).all(1)
    with torch.no_grad():
        eye = torch.eye(kernel.shape[1], dtype=kernel.dtype, device=kernel.device)
        free = _free_entries(torch.where(good.view(-1, 1, 1), kernel, eye), y, penalty)
    tasks = zip(kernel, y, free, good.tolist(), strict=True)
    alphas = [_solve(k, y_b, penalty, f)[0] if fine else (k.sum() * y_b) for k, y_b, f, fine in tasks]
    return torch.stack(alphas).to(products)


def _free_entries(kernel: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Which entries of beta are not zero at the optimum [B, S, N]."""
    rate = 1 / torch.linalg.matrix_norm(kernel, 2).view(-1, 1, 1)
    beta = _project(penalty * y.mean(2, keepdim=True).expand_as(y), penalty)
    ahead, momentum, found = beta, 1.0, torch.zeros_like(y, dtype=torch.bool)
    left = set(range(len(y)))
    for step in range(1, MOST + 1):
        new = _project(ahead - rate * (y - kernel @ (penalty * y - ahead)), penalty)
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        restart = ((ahead - new) * (new - beta)).sum((1, 2), keepdim=True) > 0  # momentum points uphill
        ahead = torch.where(restart, new, new + (momentum - 1) / after * (new - beta))
        beta, momentum = new, after
        if step % CHECK_EVERY == 0 or step == MOST:
            for b in list(left):
                found[b] = beta[b] > 0
                if _is_optimal(kernel[b], y[b], penalty, found[b]):
                    left.remove(b)
            if not left:
                return found
    log.warning(f"the support vector machines of {len(left)} tasks are not solved exactly; raise agent.smoothing")
    return found


def _project(points: Tensor, size: float) -> Tensor:
    """The nearest points of a simplex {v >= 0, sum v = size} to the rows of points [B, S, N]."""
    ordered = points.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - size
    ranks = torch.arange(1, points.shape[-1] + 1, device=points.device)
    support = (ordered * ranks > excess).sum(-1, keepdim=True)
    return (points - excess.gather(-1, support - 1) / support).clamp(min=0)


def _solve(kernel: Tensor, y: Tensor, penalty: float, free: Tensor) -> tuple[Tensor, Tensor]:
    """alpha [S, N], and every row's multiplier [S], at the optimum with these free entries of beta, of one task."""
    item, cls = free.nonzero(as_tuple=True)
    bound = penalty * y * ~free  # alpha where beta is zero
    rows = F.one_hot(item, len(y)).to(kernel)  # [entries, S]
    among = kernel[item][:, item] * (cls.unsqueeze(1) == cls)
    top = torch.cat([among, rows], 1)
    below = torch.cat([rows.mT, rows.new_zeros(len(y), len(y))], 1)
    right = torch.cat([(y - kernel @ bound)[item, cls], -bound.sum(1)])
    solution = torch.linalg.solve(torch.cat([top, below]), right)
    alpha = bound.index_put((item, cls), solution[: len(item)])
    return alpha, solution[len(item) :]


def _is_optimal(kernel: Tensor, y: Tensor, penalty: float, free: Tensor) -> bool:
    """Whether these are the free entries at the optimum of one task."""
    try:
        alpha, multiplier = _solve(kernel, y, penalty, free)
    except RuntimeError:  # torch.linalg.LinAlgError: singular
        return False
    beta, slope = penalty * y - alpha, y - kernel @ alpha - multiplier.unsqueeze(-1)
    inside = beta >= -CLOSE * penalty
    downhill = slope >= -CLOSE * (1 + multiplier.abs().unsqueeze(-1))
    return bool((inside & (downhill | free)).all())
