"""Base learners f_theta as functions of flat weights: MLP and Conv4 bodies, linear and cosine heads.

A net keeps no weights. Weights of B tasks are one tensor [B, P]; every update rule is then plain
arithmetic on [B, P]. B = tasks, S = items, F = features, P = weights, M = normalisation statistics.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_env.errors import FewShotError

Shapes = dict[str, tuple[int, ...]]
EPS = 1e-5  # of batch normalisation


def uniform_fan_in(shape: tuple[int, ...], fan_in: int, generator: torch.Generator | None) -> Tensor:
    """PyTorch's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(fan_in)


def size_of(shapes: Shapes) -> int:
    """Number of weights."""
    return sum(math.prod(s) for s in shapes.values())


def unpack(params: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of flat weights [B, P] as named tensors [B, *shape]."""
    parts = params.split([math.prod(s) for s in shapes.values()], dim=-1)
    return {name: part.unflatten(-1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


class LinearHead:
    """Logits or values: x W^T + b; PyTorch's default weights, zero bias."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        self.shapes: Shapes = {"head.weight": (n_outputs, n_features), "head.bias": (n_outputs,)}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        return torch.zeros(shape) if name.endswith("bias") else uniform_fan_in(shape, shape[1], generator)

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """params [B, P_head], features [B, S, F] -> [B, S, N]."""
        w = unpack(params, self.shapes)
        return torch.baddbmm(w["head.bias"].unsqueeze(1), features, w["head.weight"].transpose(1, 2))


class CosineHead:
    """Baseline++ (Chen et al. 2019): scale x gain_c x cosine(feature, weight_c).

    gain: a learned factor per class, initially |weight_c| (weight normalisation, as in Chen's and the
    published code), or fixed to 1 (a pure cosine).
    """

    def __init__(self, n_features: int, n_outputs: int, scale: float, learn_gain: bool) -> None:
        self.scale, self.learn_gain = scale, learn_gain
        self.shapes: Shapes = {"head.weight": (n_outputs, n_features)}
        if learn_gain:
            self.shapes["head.gain"] = (n_outputs,)
        self._norm = math.sqrt(1 / 3)  # |w| of U(-1/sqrt(F), 1/sqrt(F)) weights, in expectation

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        if name.endswith("gain"):
            return torch.full(shape, self._norm)
        return uniform_fan_in(shape, shape[1], generator)

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """params [B, P_head], features [B, S, F] -> [B, S, N]."""
        w = unpack(params, self.shapes)
        cosine = F.normalize(features, dim=-1, eps=1e-5) @ F.normalize(w["head.weight"], dim=-1).transpose(1, 2)
        return self.scale * (cosine * w["head.gain"].unsqueeze(1) if self.learn_gain else cosine)


class MLPBody:
    """Fully connected ReLU layers on flattened inputs; PyTorch's default weights, zero biases."""

    n_stats = 0

    def __init__(self, n_inputs: int, hidden: tuple[int, ...]) -> None:
        self.n_layers, self.n_features = len(hidden), hidden[-1]
        self.shapes: Shapes = {}
        for i, (fan_in, fan_out) in enumerate(zip((n_inputs, *hidden), hidden, strict=False)):
            self.shapes |= {f"layer{i}.weight": (fan_out, fan_in), f"layer{i}.bias": (fan_out,)}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Initial values of one weight tensor."""
        return torch.zeros(shape) if name.endswith("bias") else uniform_fan_in(shape, shape[1], generator)

    def batched(self, device: torch.device) -> bool:
        """Whether B tasks are best computed at once."""
        return True

    def initial_stats(self) -> Tensor:
        """Normalisation statistics [M] before any data: none."""
        return torch.zeros(0)

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        """params [B, P_body], x [B, S, *in_shape] -> features [B, S, F]."""
        w = unpack(params, self.shapes)
        h = x.flatten(2)
        for i in range(self.n_layers):
            h = torch.baddbmm(w[f"layer{i}.bias"].unsqueeze(1), h, w[f"layer{i}.weight"].transpose(1, 2)).relu()
        return h


def conv4_size(in_shape: tuple[int, ...], padding: int) -> list[int]:
    """Height and width of Conv4's last maps for images [C, H, W]; below 1 where they are too small for it."""
    size = list(in_shape[1:])
    for _ in range(4):
        size = [(n - 2 + 2 * padding) // 2 for n in size]
    return size


class Conv4Body:
    """Four blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 max-pool (paper, Appendix).

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
        if min(size) < 1:
            mend = "it needs 16x16" if padding else "set agent.padding=1"
            raise FewShotError(f"images of {in_shape[1]}x{in_shape[2]} are too small for Conv4; {mend}")
        self.n_features = filters * math.prod(size)

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

        stats [B, M]: statistics to normalise with, else those of x, which are appended to `seen` if given.
        """
        w = unpack(params, self.shapes)
        tasks = len(x)
        h = self.to_groups(x)
        given = None if stats is None else stats.unflatten(-1, (self.depth, 2, self.filters)).unbind(1)
        for i in range(self.depth):
            weight = w[f"block{i}.weight"].flatten(0, 1)
            h = self.convolve(h, weight, w[f"block{i}.bias"].flatten(), tasks)
            scale, shift = w[f"block{i}.scale"].flatten(), w[f"block{i}.shift"].flatten()
            if given is not None:
                h = _normalise(h, given[i][:, 0].flatten(), given[i][:, 1].flatten(), scale, shift)
            elif seen is not None:
                variance, mean = torch.var_mean(h, (0, 2, 3), correction=0)
                seen += [mean.view(tasks, -1), variance.view(tasks, -1)]
                h = _normalise(h, mean, variance, scale, shift)
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


def _normalise(h: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise channels of h [S, C, H, W] with given statistics [C], differentiable in all of them."""
    factor = scale * torch.rsqrt(variance + EPS)
    return h * factor.view(-1, 1, 1) + (shift - mean * factor).view(-1, 1, 1)


class Net:
    """A body and a head over one flat weight vector: theta = [body, head]."""

    def __init__(self, body: MLPBody | Conv4Body, head: LinearHead | CosineHead, at_once: int | None = None) -> None:
        """at_once: tasks computed at once; None: as many as is fastest."""
        self.body, self.head, self.at_once = body, head, at_once
        self.n_body = size_of(body.shapes)
        self.n_params = self.n_body + size_of(head.shapes)
        self.n_stats = body.n_stats

    def init(self, generator: torch.Generator | None = None) -> Tensor:
        """Initial weights [P]."""
        parts: list[Body | Head] = [self.body, self.head]
        return torch.cat([p.init(n, s, generator).flatten() for p in parts for n, s in p.shapes.items()])

    @property
    def layers(self) -> dict[str, slice]:
        """Where each layer's weights lie in the flat vector."""
        found: dict[str, slice] = {}
        start = 0
        for name, shape in (self.body.shapes | self.head.shapes).items():
            stop, layer = start + math.prod(shape), name.split(".")[0]
            found[layer] = slice(found[layer].start if layer in found else start, stop)
            start = stop
        return found

    def chunks(self, params: Tensor) -> list[slice]:
        """The tasks of params [B, P] in the portions in which they are best computed."""
        tasks = params.shape[0]
        step = self.at_once or (tasks if self.body.batched(params.device) else 1)
        return [slice(b, b + step) for b in range(0, tasks, step)]

    def features(self, params: Tensor, x: Tensor, stats: Tensor | None = None) -> Tensor:
        """params [B, P] (or the body's part), x [B, S, *in_shape] -> [B, S, F]."""
        body = params[:, : self.n_body]
        return torch.cat(
            [self.body(body[t], x[t], None if stats is None else stats[t], None) for t in self.chunks(params)]
        )

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None = None) -> Tensor:
        """Predictions [B, S, N] of weights [B, P] on x [B, S, *in_shape].

        stats [B, M] are the statistics that batch normalisation uses; None: those of x itself.
        """
        return self.head(params[:, self.n_body :], self.features(params, x, stats))

    def with_statistics(self, params: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions [B, S, N], and the batch statistics [B, M] of x that they used."""
        features, stats = [], []
        for t in self.chunks(params):
            seen: list[Tensor] = []
            features.append(self.body(params[t, : self.n_body], x[t], None, seen))
            stats.append(torch.cat(seen, 1) if seen else x.new_zeros(features[-1].shape[0], 0))
        return self.head(params[:, self.n_body :], torch.cat(features)), torch.cat(stats)


Body = MLPBody | Conv4Body
Head = LinearHead | CosineHead


def make_body(
    in_shape: tuple[int, ...], hidden: tuple[int, ...], filters: int, padding: int, bf16: bool = False
) -> Body:
    """Conv4 for images [C, H, W], the MLP for everything else (paper, Appendix); bf16: Conv4's convolutions."""
    if len(in_shape) == 3:
        return Conv4Body(in_shape, filters, padding, bf16)
    if bf16:
        raise FewShotError("bf16 is for Conv4's convolutions, and these tasks have no images; leave it out")
    return MLPBody(math.prod(in_shape), hidden)
