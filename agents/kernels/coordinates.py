"""Small networks applied to every weight of the base learner: how the update rules of TURTLE and the LSTM compute.

Activations hold their units in front, [units, R, n]: R runs of n coordinates (tasks times weights) each, so that a
unit's values are contiguous. Weights of R runs are [R, size]. Where the compiled kernels are available they compute
all layers of a few coordinates at a time and keep nothing for the backward pass but the inputs.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from agents import kernels

RECOMPUTE_ABOVE = 2**16
"""Coordinates (tasks times weights) whose activations would take too much memory to keep for the backward pass."""


def feedforward_size(sizes: tuple[int, ...]) -> int:
    """Number of weights of a network with so many units per layer."""
    return sum(out * (fan_in + 1) for fan_in, out in itertools.pairwise(sizes))


def feedforward_layers(weights: Tensor, sizes: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Views (W [R, out, in], b [R, out]) of each layer."""
    layers, start = [], 0
    for fan_in, out in itertools.pairwise(sizes):
        middle, stop = start + out * fan_in, start + out * (fan_in + 1)
        layers.append((weights[:, start:middle].unflatten(1, (out, fan_in)), weights[:, middle:stop]))
        start = stop
    return layers


def feedforward(inputs: Tensor, weights: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """ReLU layers and a linear output for every coordinate: inputs [d, R, n] -> [R, n].

    Without kernels the activations of many coordinates are computed anew in the backward pass.
    """
    if kernels.available(inputs, weights):
        outputs: Tensor = _Feedforward.apply(inputs.contiguous(), weights.contiguous(), sizes)
        return outputs
    if inputs[0].numel() > RECOMPUTE_ABOVE and torch.is_grad_enabled():
        again: Tensor = checkpoint(
            feedforward_in_torch, inputs, weights, sizes, use_reentrant=False, preserve_rng_state=False
        )
        return again
    return feedforward_in_torch(inputs, weights, sizes)


def feedforward_in_torch(inputs: Tensor, weights: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The same in torch operations."""
    h = inputs.transpose(0, 1)  # [R, d, n]
    layers = feedforward_layers(weights, sizes)
    for i, (weight, bias) in enumerate(layers):
        h = torch.baddbmm(bias.unsqueeze(2), weight, h)
        h = h.relu_() if i + 1 < len(layers) else h
    return h.squeeze(1)


@functools.cache
def _sizes(sizes: tuple[int, ...]) -> Tensor:
    return torch.tensor(sizes, dtype=torch.int64)


class _Feedforward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(inputs, weights)
        ctx.shape = _sizes(sizes), len(sizes) - 1, inputs.shape[1], inputs.shape[2], inputs[0].numel()
        outputs = torch.empty_like(inputs[0])
        kernels.call("feedforward", inputs, weights, outputs, *ctx.shape)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs, weights = ctx.saved_tensors
        d_inputs, d_weights = torch.empty_like(inputs), torch.zeros_like(weights)
        found = d_outputs.contiguous(), d_inputs, d_weights
        kernels.call("feedforward_backward", inputs, weights, *found, *ctx.shape)
        return d_inputs, d_weights, None


class LSTMStep(torch.autograd.Function):
    """One step of the meta-learner LSTM in a kernel; agents.meta_lstm has it in torch.

    Takes inputs [d, B, P], hidden and cell state [H, B, P], weights theta, their gradients, previous forget gates and
    rates [B, P], and the rule's weights [R, size]; gives the new theta, hidden, cell, forget gates and rates.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> tuple[Tensor, ...]:
        """One step of B tasks, of which R runs have equally many."""
        arguments = tuple(a.contiguous() for a in arguments)
        inputs, hidden, cell, theta, _, forget, rate, weights = arguments
        ctx.save_for_backward(*arguments)
        ctx.shape = len(inputs), len(hidden), len(weights), theta.numel() // len(weights), theta.numel()
        out = tuple(torch.empty_like(v) for v in (theta, hidden, cell, forget, rate))
        kernels.call("lstm", *arguments, *out, *ctx.shape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_out: Tensor) -> tuple[Tensor, ...]:
        """Gradients of all arguments."""
        arguments = ctx.saved_tensors
        d_arguments = (*map(torch.empty_like, arguments[:-1]), torch.zeros_like(arguments[-1]))
        kernels.call("lstm_backward", *arguments, *(d.contiguous() for d in d_out), *d_arguments, *ctx.shape)
        return d_arguments
