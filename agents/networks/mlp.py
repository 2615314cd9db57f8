"""The MLP (paper, Appendix): fully connected ReLU layers; agents.networks.mlp_pass has its derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.networks.flat import Shapes, uniform_fan_in, unpack
from agents.networks.heads import LinearHead
from agents.networks.mlp_pass import mlp_outputs, mlp_pass
from agents.networks.network import Body, Network, is_unchanged
from agents.networks.objective import Objective, output_curvature, output_delta
from fewshot_env.episode import Split, TaskSpec


class MLPBody(Body):
    """Fully connected ReLU layers on flattened inputs; PyTorch's default weights, zero biases."""

    stackable = True

    def __init__(self, n_inputs: int, hidden: tuple[int, ...]) -> None:
        self.n_layers, self.n_features = len(hidden), hidden[-1]
        self.shapes: Shapes = {}
        for i, (fan_in, fan_out) in enumerate(zip((n_inputs, *hidden), hidden, strict=False)):
            self.shapes |= {f"layer{i}.weight": (fan_out, fan_in), f"layer{i}.bias": (fan_out,)}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        return torch.zeros(shape) if name.endswith("bias") else uniform_fan_in(shape, shape[1], generator)

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        """params [B, P_body], x [B, S, *in_shape] -> features [B, S, F]."""
        w = unpack(params, self.shapes)
        h = x.flatten(2)
        for i in range(self.n_layers):
            h = torch.baddbmm(w[f"layer{i}.bias"].unsqueeze(1), h, w[f"layer{i}.weight"].transpose(1, 2)).relu()
        return h

    def objective(self, net: Network, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
        """Written out with a linear head; else the general one."""
        if is_unchanged(self, MLPBody) and is_unchanged(net.head, LinearHead):
            return MLPObjective(net, spec, support, stats)
        return super().objective(net, spec, support, stats)

    def predict(self, net: Network, params: Tensor, x: Tensor) -> Tensor:
        """Predictions [B, S, N], differentiable once, in params."""
        if is_unchanged(self, MLPBody) and is_unchanged(net.head, LinearHead):
            return mlp_outputs(net.shapes, params, x.flatten(2))
        return super().predict(net, params, x)


class MLPObjective(Objective):
    """The MLP with a linear head, all tasks at once."""

    def __init__(self, net: Network, spec: TaskSpec, support: Split, stats: Tensor | None) -> None:
        super().__init__(net, spec, support, stats)
        self.x, self.shapes = support.x.flatten(2), net.shapes

    def gradient(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients [B, P] and losses [B] at params [B, P]."""
        done = mlp_pass(self.shapes, params, self.x)
        delta = output_delta(self.spec, done.outputs, self.support.labels)
        return done.backward(delta), self.spec.loss(done.outputs, self.support.labels)

    def hessian_vector(self, params: Tensor, v: Tensor) -> Tensor:
        """H v [B, P]: the derivative of `gradient` along v."""
        done = mlp_pass(self.shapes, params, self.x)
        delta = output_delta(self.spec, done.outputs, self.support.labels)
        r_delta = output_curvature(self.spec, done.outputs, done.r_forward(v))
        return done.r_backward(delta, r_delta)
