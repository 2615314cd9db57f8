"""The input that a network was made for: size, channels and normalization, given to it whatever the images are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PreparedInput(nn.Module):
    """A network behind what brings images [S, C, H, W] in [0, 1] into the form that it declares.

    A network declares what it wants by attributes, each of which may be missing: `expects_size` (pixels of a side;
    other images are resized, bilinearly with antialiasing), `expects_mean` and `expects_std` (per channel). Images with
    one channel are repeated for a network that declares several means.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.size: int | None = getattr(network, "expects_size", None)
        for name, missing in (("mean", 0.0), ("std", 1.0)):
            values = torch.tensor(getattr(network, f"expects_{name}", (missing,)), dtype=torch.get_default_dtype())
            self.register_buffer(name, values.view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features [S, F]."""
        if self.size is not None and (x.shape[2], x.shape[3]) != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        features: Tensor = self.network((x - self.mean) / self.std)
        return features


def prepared(network: nn.Module) -> nn.Module:
    """The network, behind `PreparedInput` if it declares anything."""
    declares = any(hasattr(network, f"expects_{name}") for name in ("size", "mean", "std"))
    return PreparedInput(network) if declares else network
