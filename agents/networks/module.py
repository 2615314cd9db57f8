"""Any nn.Module as a body: its parameters become flat weights, one task at a time (torch.func.functional_call)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from agents.networks.flat import Shapes
from agents.networks.network import Body, Network
from agents.networks.objective import DoubleBackwardObjective, Objective
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError, said

Factory = Callable[[tuple[int, ...]], nn.Module]
"""Takes the shape of one item, (3, 84, 84) say; gives a module with features [S, F] for items [S, *in_shape]."""


class ModuleBody(Body):
    """Features of a module, as a function of its parameters.

    Its initial weights are the module's own. Parameters that require no gradient, and buffers other than the statistics
    of batch normalization, are constants. Batch normalization uses the statistics that `agent.bn` asks for.

    Args:
        module: gives features [S, F] for items [S, *in_shape].
        in_shape: the shape of one item.

    Raises:
        FewShotError: where the module does not give such features, or draws random numbers (dropout): adaptation is a
            function of the support set, so set the rate of such layers to 0.
    """

    def __init__(self, module: nn.Module, in_shape: tuple[int, ...]) -> None:
        self.module = _with_task_norms(copy.deepcopy(module)).train()
        self.norms = [m for m in self.module.modules() if isinstance(m, TaskNorm)]
        self.n_stats = sum(2 * norm.num_features for norm in self.norms)
        learned = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        places = [path for path, m in self.module.named_modules() if isinstance(m, TaskNorm)]
        names = [(f"{path}.weight".lstrip("."), f"{path}.bias".lstrip(".")) for path in places]
        self.affine = tuple((f"body.{w}", f"body.{b}") for w, b in names if w in learned and b in learned)
        self.shapes: Shapes = {f"body.{name}": (*p.shape,) for name, p in learned.items()}
        self._names = list(learned)
        self._initial = {f"body.{name}": p.detach().clone() for name, p in learned.items()}
        frozen = {name: p.detach().clone() for name, p in self.module.named_parameters() if not p.requires_grad}
        self._constants = frozen | {name: b.detach().clone() for name, b in self.module.named_buffers()}
        self._constants_at: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}
        self.n_features = self._checked(in_shape)

    def _checked(self, in_shape: tuple[int, ...]) -> int:
        """The number of features; raises FewShotError where the module cannot be a body."""
        name, rng = type(self.module).__name__, torch.get_rng_state()
        before = {buffer: value.clone() for buffer, value in self._constants.items()}
        try:
            params = torch.cat([v.flatten() for v in self._initial.values()]) if self._initial else torch.zeros(0)
            items = torch.linspace(0, 1, 2 * math.prod(in_shape), dtype=params.dtype).view(2, *in_shape)
            features, _ = self._one(params, items, None)
        except FewShotError:
            raise
        except Exception as error:  # of the module
            raise FewShotError(f"the network {name} fails on items of shape {in_shape}: {said(error)}") from error
        if not torch.equal(rng, torch.get_rng_state()):
            torch.set_rng_state(rng)
            raise FewShotError(
                f"the network {name} draws random numbers, for example in a dropout layer; set the rate of such layers "
                "to 0, since adaptation must be a function of the support set"
            )
        for buffer, value in self._constants_for(params).items():
            if not torch.equal(value, before[buffer].to(value)):
                raise FewShotError(
                    f"the network {name} changes its buffer {buffer} in a pass, so that tasks would influence each "
                    "other; leave that out"
                )
        if not (isinstance(features, Tensor) and features.dim() == 2 and len(features) == 2):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise FewShotError(f"the network {name} gives {shape} for 2 items, but must give features [2, F]")
        return features.shape[1]

    def constants(self) -> dict[str, Tensor]:
        """Frozen parameters and buffers."""
        return dict(self._constants)

    def set_constants(self, values: Mapping[str, Tensor]) -> None:
        """Replace them, by name."""
        self._constants = {name: value.detach().clone() for name, value in values.items()}
        self._constants_at = {}

    def init(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """The module's own initial values; nothing is drawn."""
        return self._initial[name].to(torch.get_default_dtype())

    def matrices(self) -> dict[str, str | None]:
        """The learned weights of linear layers and (not transposed) convolutions, in the order of registration."""
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        paths = [f"body.{path}.".replace("..", ".") for path, m in self.module.named_modules() if isinstance(m, kinds)]
        pairs = {f"{path}weight": f"{path}bias" for path in paths}
        return {w: b if b in self.shapes else None for w, b in pairs.items() if w in self.shapes}

    def batched(self, device: torch.device) -> bool:
        """Tasks are computed one by one."""
        return False

    def initial_stats(self) -> Tensor:
        """The running mean and variance of every batch normalization as the module brings them, else 0 and 1."""
        parts = [part for norm in self.norms for part in (norm.initial_mean, norm.initial_variance)]
        return torch.cat(parts).to(torch.get_default_dtype()) if parts else torch.zeros(0)

    def objective(self, net: Network, spec: TaskSpec, support: Split, stats: Tensor | None) -> Objective:
        """Hessian-vector products go backward twice, which more layers allow than forward derivatives."""
        return DoubleBackwardObjective(net, spec, support, stats)

    def __call__(self, params: Tensor, x: Tensor, stats: Tensor | None, seen: list[Tensor] | None) -> Tensor:
        """params [B, P_body], x [B, S, *in_shape] -> features [B, S, F]."""
        rows = [self._one(params[b], x[b], None if stats is None else stats[b]) for b in range(len(x))]
        if seen is not None and self.norms:
            seen.append(torch.stack([used for _, used in rows]))
        return torch.stack([features for features, _ in rows])

    def _one(self, params: Tensor, items: Tensor, stats: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features [S, F] of one task, and the statistics [M] that it was normalized with."""
        shapes = self.shapes.values()
        parts = params.split([math.prod(s) for s in shapes])
        named = {n: part.view(s) for n, s, part in zip(self._names, shapes, parts, strict=True)}
        given = [None] * len(self.norms) if stats is None else self._by_norm(stats)
        for norm, of_norm in zip(self.norms, given, strict=True):
            norm.given, norm.used = of_norm, []
        try:
            features: Any = torch.func.functional_call(self.module, {**self._constants_for(params), **named}, (items,))
            for norm in self.norms:
                if len(norm.used) != 1:
                    raise FewShotError(
                        f"a batch normalization of the network {type(self.module).__name__} is used {len(norm.used)} "
                        "times in a pass; each must be used once"
                    )
            used = [part for norm in self.norms for part in norm.used[0]]
            return features, torch.cat(used) if used else params.new_zeros(0)
        finally:
            for norm in self.norms:
                norm.given, norm.used = None, []

    def _by_norm(self, stats: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of each normalization from statistics [M]."""
        parts = iter(stats.split([n.num_features for n in self.norms for _ in range(2)]))
        return list(zip(parts, parts, strict=True))

    def _constants_for(self, params: Tensor) -> dict[str, Tensor]:
        """The constants on the device, and floats in the type, of the weights."""
        key = (params.device, params.dtype)
        if key not in self._constants_at:
            self._constants_at[key] = {
                name: v.to(params.device, params.dtype if v.is_floating_point() else v.dtype)
                for name, v in self._constants.items()
            }
        return self._constants_at[key]


class TaskNorm(nn.Module):
    """Replaces a batch normalization: uses given statistics, or those of its input, and changes neither."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self.num_features, self.eps = norm.num_features, norm.eps
        mean, variance = norm.running_mean, norm.running_var
        self.initial_mean = torch.zeros(norm.num_features) if mean is None else mean.detach().clone()
        self.initial_variance = torch.ones(norm.num_features) if variance is None else variance.detach().clone()
        self.given: tuple[Tensor, Tensor] | None = None
        self.used: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """x [S, C, ...] normalized per channel; differentiable twice, in the statistics too."""
        if self.given is None:
            variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
        else:
            mean, variance = self.given
        self.used.append((mean, variance))
        factor = torch.rsqrt(variance + self.eps)
        factor = factor if self.weight is None else factor * self.weight
        shift = -mean * factor if self.bias is None else self.bias - mean * factor
        wide = (-1, *[1] * (x.dim() - 2))
        return x * factor.view(wide) + shift.view(wide)


def _with_task_norms(module: nn.Module) -> nn.Module:
    """The module with every batch normalization replaced, parameter names unchanged."""
    if isinstance(module, _BatchNorm):
        return TaskNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _with_task_norms(child))
    return module
