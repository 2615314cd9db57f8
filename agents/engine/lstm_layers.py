"""LSTM layers whose parameters have independent runs as their first axis; plain products, so that they export."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

State = list[Tensor]
"""h and c of every layer, [runs, rows, units] each: h, c, h', c', ..."""


class LSTMLayers(nn.Module):
    """Layers of some units on rows of inputs; every row has a state of its own.

    Weights begin uniform as PyTorch's do, by the wider of a layer's inputs and units (a single unit would get +-1).
    """

    def __init__(self, inputs: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.units = units
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, n in pairwise((inputs, *units)):
            edge = max(fan_in, n) ** -0.5
            self.weights.append(torch.empty(1, fan_in + n, 4 * n).uniform_(-edge, edge))  # [runs, in + n, 4 n]
            self.biases.append(torch.zeros(1, 1, 4 * n))

    def first(self, x: Tensor) -> State:
        """Zeros, for rows x [runs, rows, inputs]."""
        return [x.new_zeros(*x.shape[:2], n) for n in self.units for _ in range(2)]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs [runs, rows, units] and the next state, for x [runs, rows, inputs]."""
        new: State = []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h, c = state[2 * layer], state[2 * layer + 1]
            keep, take, show, what = torch.baddbmm(bias, torch.cat([x, h], 2), weight).chunk(4, 2)
            c = keep.sigmoid() * c + take.sigmoid() * what.tanh()
            x = show.sigmoid() * c.tanh()
            new += [x, c]
        return x, new
