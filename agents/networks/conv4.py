"""Conv4 (paper, Appendix): four blocks of convolution, batch normalization, ReLU and pooling, and its objective."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.networks.conv4_pass import PART, Conv4Pass, conv4_features, flat_rows
from agents.networks.flat import EPS, Shapes, uniform_fan_in, unpack
from agents.networks.heads import LinearHead
from agents.networks.network import Body, Network, is_unchanged
from agents.networks.objective import Objective, output_curvature, output_delta
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


def conv4_size(in_shape: tuple[int, ...], padding: int) -> list[int]:
    """Height and width of Conv4's last maps for images [C, H, W]; below 1 where they are too small for it."""
    size = list(in_shape[1:])
    for _ in range(4):
        size = [(n - 2 + 2 * padding) // 2 for n in size]
    return size


class Conv4Body(Body):
    """Four blocks of 3x3 convolution, batch normalization, ReLU and 2x2 max-pool (paper, Appendix).

    B tasks run as one convolution with B groups. PyTorch's default convolutions; scale 1, shift 0.
    """

    def __init__(self, in_shape: tuple[int, ...], filters: int, padding: int, bf16: bool = False) -> None:
        channels, size = in_shape[0], conv4_size(in_shape, padding)
        self.conv_dtype = torch.bfloat16 if bf16 else None
        self.filters, self.padding, self.depth = filters, padding, 4
        self.n_stats = 2 * filters * self.depth
        self.shapes: Shapes = {}
        for i in range(self.depth):
            self.shapes |= {f"block{i}.weight": (filters, channels if i == 0 else filters, 3, 3)}
            self.shapes |= {f"block{i}.{name}": (filters,) for name in ("bias", "scale", "shift")}
        self.affine = tuple((f"block{i}.scale", f"block{i}.shift") for i in range(self.depth))
        if min(size) < 1:
            advice = "it needs 16x16" if padding else "set agent.padding=1"
            raise FewShotError(f"images of {in_shape[1]}x{in_shape[2]} are too small for Conv4; {advice}")
        self.n_features, self.maps = filters * math.prod(size), (filters, size[0], size[1])

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        if name.endswith(("scale", "shift")):
            return torch.full(shape, float(name.endswith("scale")))
        fan_in = math.prod(self.shapes[name.split(".")[0] + ".weight"][1:])
        return uniform_fan_in(shape, fan_in, generator)

    def batched(self, device: torch.device) -> bool:
        """Whether B tasks are best computed at once: grouped convolutions are slow on a CPU."""
        return device.type != "cpu"

    def initial_stats(self) -> Tensor:
        """Normalisation statistics [M] before any data: mean 0 and variance 1 per block and filter."""
        return torch.tensor([0.0, 1.0]).view(1, 2, 1).expand(self.depth, 2, self.filters).flatten()

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        """params [B, P_body], x [B, S, C, H, W] -> features [B, S, F].

        stats [B, M]: statistics to normalize with, else those of x, which are appended to `seen` if given. Without a
        graph, no map of all items is held that need not be.
        """
        if not (torch.is_grad_enabled() or torch.compiler.is_exporting()) and seen is None and x.shape[1]:
            if stats is None:
                return conv4_features(self, params, x)
            parts = x.split(PART, 1)  # items are independent
            return torch.cat([self._features(params, part, stats, None) for part in parts], 1)
        return self._features(params, x, stats, seen)

    def _features(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        w = unpack(params, self.shapes)
        tasks = len(x)
        h = self.to_groups(x)
        given = None if stats is None else stats.unflatten(-1, (self.depth, 2, self.filters)).unbind(1)
        for i in range(self.depth):
            weight = w[f"block{i}.weight"].flatten(0, 1)
            h = self.convolve(h, weight, w[f"block{i}.bias"].flatten(), tasks)
            scale, shift = w[f"block{i}.scale"].flatten(), w[f"block{i}.shift"].flatten()
            if given is not None:
                h = _normalize(h, given[i][:, 0].flatten(), given[i][:, 1].flatten(), scale, shift)
            elif seen is not None:
                variance, mean = torch.var_mean(h, (0, 2, 3), correction=0)
                seen += [mean.view(tasks, -1), variance.view(tasks, -1)]
                h = _normalize(h, mean, variance, scale, shift)
            else:
                h = F.batch_norm(h, None, None, scale, shift, training=True, eps=EPS)
            h = F.max_pool2d(h, 2).relu()  # the same as relu first, on a quarter of the pixels
        return self.from_groups(h, tasks)

    def convolve(self, h: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        """A 3x3 convolution, in bfloat16 where so configured; the result has the type of h."""
        if self.conv_dtype is None:
            return F.conv2d(h, weight, bias, padding=self.padding, groups=groups)
        short = F.conv2d(h.to(self.conv_dtype), weight.to(self.conv_dtype), None, padding=self.padding, groups=groups)
        wide = short.to(h.dtype)
        return wide if bias is None else wide + bias.view(-1, 1, 1)

    def to_groups(self, x: Tensor) -> Tensor:
        """x [B, S, C, H, W] -> [S, B C, H, W]; a single task keeps its memory layout."""
        return x.squeeze(0) if len(x) == 1 else x.transpose(0, 1).flatten(1, 2)

    def from_groups(self, h: Tensor, tasks: int) -> Tensor:
        """h [S, B filters, H, W] -> features [B, S, F]."""
        features: Tensor = h.unflatten(1, (tasks, self.filters)).transpose(0, 1).flatten(2)
        return features

    def objective(self, net: Network, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
        """Written out with a linear head and batch statistics; else the general one."""
        if is_unchanged(self, Conv4Body) and is_unchanged(net.head, LinearHead) and stats is None:
            return Conv4Objective(net, spec, support, None)
        return super().objective(net, spec, support, stats)

    def predict(self, net: Network, params: Tensor, x: Tensor) -> Tensor:
        """Predictions [B, S, N], differentiable once, in params."""
        if not is_unchanged(self, Conv4Body):
            return super().predict(net, params, x)
        body = params[:, : net.n_body]
        features = torch.cat([conv4_features(self, body[t], x[t]) for t in net.chunks(params)])
        return net.head(params[:, net.n_body :], features)


def _normalize(h: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalize channels of h [S, C, H, W] with given statistics [C], differentiable in all of them."""
    factor = scale * torch.rsqrt(variance + EPS)
    return h * factor.view(-1, 1, 1) + (shift - mean * factor).view(-1, 1, 1)


class Conv4Objective(Objective):
    """Conv4 with a linear head and batch statistics."""

    def __init__(self, net: Network, spec: TaskSpec, support: Split, stats: None) -> None:
        super().__init__(net, spec, support, stats)
        assert isinstance(net.body, Conv4Body)
        self.body, self.shapes = net.body, net.shapes

    def gradient_of(self, params: Tensor, tasks: slice) -> tuple[Tensor, Tensor]:
        """Gradients [b, P] and losses [b] of some tasks with weights [b, P]."""
        w, y = self._weights(params), self.support.labels[tasks]
        done = Conv4Pass(self.body, w, self.support.x[tasks])
        features = done.features
        outputs = torch.baddbmm(w["head.bias"].unsqueeze(1), features, w["head.weight"].mT)
        delta = output_delta(self.spec, outputs, y)
        head = [delta.mT @ features, delta.sum(1)]
        return flat_rows([done.backward(delta @ w["head.weight"]), *head], len(params)), self.spec.loss(outputs, y)

    def hessian_vector_of(self, params: Tensor, v: Tensor, tasks: slice) -> Tensor:
        """H v [b, P] of some tasks at weights [b, P]."""
        w, r, y = self._weights(params), self._weights(v), self.support.labels[tasks]
        done = Conv4Pass(self.body, w, self.support.x[tasks])
        features, r_features = done.features, done.r_forward(r)
        head, r_head = w["head.weight"], r["head.weight"]
        outputs = torch.baddbmm(w["head.bias"].unsqueeze(1), features, head.mT)
        r_outputs = torch.baddbmm(r["head.bias"].unsqueeze(1), features, r_head.mT).baddbmm_(r_features, head.mT)
        delta, r_delta = output_delta(self.spec, outputs, y), output_curvature(self.spec, outputs, r_outputs)
        body = done.r_backward(delta @ head, (r_delta @ head).baddbmm_(delta, r_head))
        return flat_rows([body, (r_delta.mT @ features).baddbmm_(delta.mT, r_features), r_delta.sum(1)], len(params))

    def _weights(self, params: Tensor) -> dict[str, Tensor]:
        return unpack(params, self.shapes)
