"""ResNet-12 and ResNet-18 as the few-shot literature uses them: modules that give features [S, F]."""

from __future__ import annotations

from torch import Tensor, nn

SMALL = 160
"""Images with a shorter side below this get ResNet-18's stem for small images."""


class ResNet12(nn.Module):
    """Four residual blocks of three 3x3 convolutions, each followed by 2x2 max-pooling; features are means over pixels.

    Widths 64-160-320-640 and a leaky ReLU of slope 0.1, without DropBlock (Oreshkin et al. 2018; Lee et al. 2019): a
    random layer would make adaptation more than a function of the support set.

    Args:
        channels: of the images.
        widths: filters of the four blocks; the last is the number of features.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = (64, 160, 320, 640)) -> None:
        super().__init__()
        sizes = zip((channels, *widths[:-1]), widths, strict=True)
        self.blocks = nn.Sequential(*(_Block(fan_in, out) for fan_in, out in sizes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """Features [S, widths[-1]] of images [S, C, H, W], H and W at least 16."""
        h: Tensor = self.blocks(x)
        return h.mean((2, 3))


class _Block(nn.Module):
    def __init__(self, fan_in: int, out: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(fan_in, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.conv3, self.bn3 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.shortcut, self.bn4 = nn.Conv2d(fan_in, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu, self.pool = nn.LeakyReLU(0.1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of half the size."""
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h)) + self.bn4(self.shortcut(x))
        pooled: Tensor = self.pool(self.relu(h))
        return pooled


def resnet18(in_shape: tuple[int, ...]) -> nn.Module:
    """ResNet-18 (He et al. 2016) without its classifier: 512 features.

    224x224 images get the published stem, a 7x7 convolution of stride 2 with pooling; small ones (84x84) a 3x3
    convolution of stride 1 without pooling, so that the last maps keep a few pixels.
    """
    from torchvision.models import resnet18 as published

    net: nn.Module = published(weights=None)
    small = min(in_shape[1:]) < SMALL
    net.fc = nn.Identity()
    if small:
        net.conv1, net.maxpool = nn.Conv2d(in_shape[0], 64, 3, padding=1, bias=False), nn.Identity()
    elif in_shape[0] != 3:
        net.conv1 = nn.Conv2d(in_shape[0], 64, 7, stride=2, padding=3, bias=False)
    return net
