"""What the worlds draw with: dice, colours, turned coordinates, light and noise.

n = images drawn at once; coordinates span [-1, 1] over the image, x to the right and y down; colours are RGB in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot_env.rng import uniforms

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Keys = Sequence[int] | NDArray[np.uint64]


class Dice:
    """Uniform numbers for n images, each from its own stream: image i depends on `keys[i]` alone."""

    def __init__(self, keys: Keys) -> None:
        self.keys, self.thrown = keys, 0

    def between(self, low: float, high: float, *shape: int) -> Array:
        """Numbers in [low, high): [n, *shape]."""
        count = math.prod(shape)
        drawn = uniforms(self.keys, count, self.thrown)
        self.thrown += count
        return low + (high - low) * drawn.reshape(len(self.keys), *shape)

    def number(self, low: int, stop: int) -> int:
        """One whole number in [low, stop): for a single key."""
        return int(self.between(low, stop)[0])


def plane(size: int) -> tuple[Array, Array]:
    """Coordinates x, y [size, size] of the pixels' centres."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(line, line)
    return x, y


def turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    """Points x, y, turned by `angle` (radians); all broadcast."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def colour(hue: Array, saturation: Array, value: Array) -> Array:
    """RGB [n, 3] of hue (in turns, any real number), saturation and value in [0, 1], [n] each."""
    distance = np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    rgb: Array = value[:, None] * (1 - saturation[:, None] * (1 - distance.clip(0, 1)))
    return rgb


def painted(ground: Array, paint: Array, cover: Array) -> Array:
    """Pictures [n, H, W, 3] with `paint` (colours [n, 3]) over `ground` (colours or pictures), by cover [n, H, W]."""
    under = ground[:, None, None] if ground.ndim == 2 else ground
    return under + cover[..., None] * (paint[:, None, None] - under)


def photographed(pictures: Array, dice: Dice, noise: float) -> Pixels:
    """Pictures [n, H, W, 3] in uneven light and with noise of up to that amplitude, as uint8."""
    size = pictures.shape[1]
    x, y = plane(size)
    along, _ = turned(x, y, dice.between(0, 2 * math.pi, 1, 1))
    light = dice.between(0.85, 1.1, 1, 1) + dice.between(0, 0.25, 1, 1) * along
    grain = dice.between(0, noise, 1, 1) * dice.between(-1, 1, size, size)
    lit: Array = pictures * light[..., None] + grain[..., None]
    return (lit.clip(0, 1) * 255).round().astype(np.uint8)
