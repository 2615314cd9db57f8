"""Charts: what is shown of an agent besides scores, as numbers; the runner draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_VALUES = 2**20  # of which quantiles are taken: enough for a picture


@dataclass(frozen=True)
class Chart:
    """Curves over one x-axis: x [n], name -> y [n], and name -> (low [n], high [n]) of a band around a curve."""

    x: Tensor
    lines: Mapping[str, Tensor]
    x_label: str
    y_label: str
    bands: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def quantiles(values: Tensor) -> Tensor:
    """The 5 %, 50 % and 95 % quantiles [3] of values of any shape."""
    some = _thinned(values)
    return torch.quantile(some, some.new_tensor([0.05, 0.5, 0.95]))


def by_step(quantiles_by_step: Sequence[Tensor], name: str, y_label: str) -> Chart:
    """How a quantity of every weight goes over the inner steps, by its `quantiles` at each: the median in its band."""
    low, middle, high = torch.stack(list(quantiles_by_step)).unbind(1)
    steps = torch.arange(1, len(quantiles_by_step) + 1)
    return Chart(steps, {name: middle}, "inner step", y_label, {name: (low, high)})


def update_by_gradient(seen: Mapping[str, tuple[Tensor, Tensor]], bins: int = 31) -> Chart:
    """The updates that weights got, by their gradient: median within 5 % and 95 %, for each named (gradients, updates).

    Bins of equal width span the central 98 % of the gradients, those of exactly zero (units that are off) left out;
    bins of fewer than three weights are NaN.
    """
    met = {name: (_thinned(grads).cpu(), _thinned(updates).cpu()) for name, (grads, updates) in seen.items()}
    every = torch.cat([grads[grads != 0] for grads, _ in met.values()]).abs()
    widest = float(torch.quantile(every[:MAX_VALUES], 0.98)) if len(every) else 1.0
    edges = torch.linspace(-widest, widest, bins + 1)
    lines, bands = {}, {}
    for name, (grads, updates) in met.items():
        place = torch.bucketize(grads.contiguous(), edges) - 1
        of_bin = [updates[(place == i) & (grads != 0)] for i in range(bins)]
        nothing = torch.full((3,), torch.nan)
        low, lines[name], high = torch.stack([quantiles(v) if len(v) > 2 else nothing for v in of_bin]).unbind(1)
        bands[name] = (low, high)
    return Chart((edges[1:] + edges[:-1]) / 2, lines, "gradient of a weight", "its update", bands)


def proposals(names: Sequence[str], response: Callable[[Tensor], Sequence[Tensor]], update: Chart) -> dict[str, Chart]:
    """What update networks propose for gradients [1, n] that stay the same: a curve for each inner step.

    names: of the networks. response: gives each network's proposals [T, n]. update: the chart of the updates that were
    made, whose range of gradients is used.
    """
    widest = update.x.abs().max()
    grads = torch.linspace(-1, 1, 61, device=widest.device).unsqueeze(0) * widest
    charts = {}
    for name, of_network in zip(names, response(grads), strict=True):
        lines = {f"step {t}": proposal for t, proposal in enumerate(of_network, 1)}
        charts[f"response{name}"] = Chart(
            grads[0], lines, "gradient (held)", "proposal, before the learning rate of the weight"
        )
    return charts


def _thinned(values: Tensor) -> Tensor:
    flat = values.detach().flatten().float()
    return flat[:: -(-len(flat) // MAX_VALUES)]
