"""Which objective computes a net's inner gradients fastest."""

from __future__ import annotations

from torch import Tensor

from agents.conv4_objective import Conv4Objective
from agents.nets import Conv4Body, LinearHead, MLPBody, Net
from agents.objective import MLPObjective, Objective
from fewshot_env.episode import Split, TaskSpec


def support_objective(net: Net, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
    """The fastest objective for this net; stats [B, M] are given normalisation statistics, or None."""
    if isinstance(net.head, LinearHead):
        if isinstance(net.body, MLPBody):
            return MLPObjective(net, spec, support, stats)
        if isinstance(net.body, Conv4Body) and stats is None:
            return Conv4Objective(net, spec, support, None)
    return Objective(net, spec, support, stats)
