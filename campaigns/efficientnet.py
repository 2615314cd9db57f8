"""EfficientNet-Lite0 (package efficientnet-lite-pytorch) as a network for `--set agent.network=efficientnet:lite0`.

It says what a network of somebody else's needs: features instead of classes, no random layers, and the input that it
was made for. `docs/results/pretrained.md` uses it; the package and its weights are no dependency of fewshot.
"""

from __future__ import annotations

from torch import Tensor, nn


class Lite0(nn.Module):
    """Features [S, 1280] of images [S, 3, 224, 224]."""

    expects_size = 224
    expects_mean = (127 / 255, 127 / 255, 127 / 255)
    expects_std = (128 / 255, 128 / 255, 128 / 255)

    def __init__(self) -> None:
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        super().__init__()
        whole = EfficientNet.from_name("efficientnet-lite0")
        for name, part in whole.named_children():
            if name not in ("_fc", "_dropout", "_avg_pooling"):
                self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """Means over pixels of the last maps."""
        h = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            h = block(h)
        features: Tensor = self._swish(self._bn1(self._conv_head(h))).mean((2, 3))
        return features


def lite0(in_shape: tuple[int, ...]) -> nn.Module:
    """The network, for images of any size: they are resized to its own."""
    return Lite0()
