"""Drawing tools of the synthetic data sets: random numbers, colours, rotation, light and noise.

n = images drawn in one call; coordinates are in [-1, 1], x to the right and y down; colours are RGB in [0, 1].
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


class RandomStreams:
    """Uniform random numbers for n images, a stream each: image i depends on `keys[i]` only."""

    def __init__(self, keys: Keys) -> None:
        self.keys, self.used = keys, 0

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """The next numbers of every stream, uniform in [low, high): [n, *shape]."""
        count = math.prod(shape)
        drawn = uniforms(self.keys, count, self.used)
        self.used += count
        return low + (high - low) * drawn.reshape(len(self.keys), *shape)

    def integer(self, low: int, stop: int) -> int:
        """The next number of a single stream (n = 1), as an integer in [low, stop)."""
        return int(self.uniform(low, stop)[0])


def pixel_grid(size: int) -> tuple[Array, Array]:
    """Coordinates x and y [size, size] of the centres of the pixels."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(line, line)
    return x, y


def rotate(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    """Rotate points x, y by `angle` (radians); the arguments broadcast."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def colour(hue: Array, saturation: Array, value: Array) -> Array:
    """RGB [n, 3] of hue [n] (in turns, any real number), saturation [n] and value [n] (both in [0, 1])."""
    distance = np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    rgb: Array = value[:, None] * (1 - saturation[:, None] * (1 - distance.clip(0, 1)))
    return rgb


def blend(background: Array, paint: Array, cover: Array) -> Array:
    """Blend colours [n, 3] over a background.

    Args:
        background: colours [n, 3] or pictures [n, H, W, 3].
        paint: colours [n, 3].
        cover: how opaque the paint is, in [0, 1], [n, H, W].

    Returns:
        Pictures [n, H, W, 3].
    """
    under = background[:, None, None] if background.ndim == 2 else background
    return under + cover[..., None] * (paint[:, None, None] - under)


def add_light_and_noise(pictures: Array, random: RandomStreams, noise: float) -> Pixels:
    """Add uneven light, and noise of at most that amplitude, to pictures [n, H, W, 3]; returns uint8."""
    size = pictures.shape[1]
    x, y = pixel_grid(size)
    along, _ = rotate(x, y, random.uniform(0, 2 * math.pi, 1, 1))
    light = random.uniform(0.85, 1.1, 1, 1) + random.uniform(0, 0.25, 1, 1) * along
    grain = random.uniform(0, noise, 1, 1) * random.uniform(-1, 1, size, size)
    lit: Array = pictures * light[..., None] + grain[..., None]
    return (lit.clip(0, 1) * 255).round().astype(np.uint8)
