"""What computes a net's inner gradients, and its predictions for the query, fastest.

Subclasses of our bodies and heads take the general way: what they change is theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.networks.conv4_pass import Conv4Objective, conv4_features
from agents.networks.mlp_pass import mlp_outputs
from agents.networks.network import Conv4Body, LinearHead, MLPBody, Net
from agents.networks.objective import MLPObjective, Objective
from fewshot_env.episode import Split, TaskSpec


def support_objective(net: Net, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
    """The fastest objective for this net; stats [B, M] are given normalisation statistics, or None."""
    if type(net.head) is LinearHead:
        if type(net.body) is MLPBody:
            return MLPObjective(net, spec, support, stats)
        if type(net.body) is Conv4Body and stats is None:
            return Conv4Objective(net, spec, support, None)
    return Objective(net, spec, support, stats)


def predict_once(net: Net, params: Tensor, x: Tensor) -> Tensor:
    """Predictions [B, S, N] under batch statistics of x, as `net` gives them; differentiable once, in params."""
    if type(net.body) is MLPBody and type(net.head) is LinearHead:
        return mlp_outputs(net.body.shapes | net.head.shapes, params, x.flatten(2))
    if type(net.body) is Conv4Body:
        body = params[:, : net.n_body]
        features = torch.cat([conv4_features(net.body, body[t], x[t]) for t in net.chunks(params)])
        return net.head(params[:, net.n_body :], features)
    return net(params, x)
