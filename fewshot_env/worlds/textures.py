"""Textures: coloured patterns.

A class is a pattern (stripes, checks, dots, rings, waves, bricks or noise) with a direction, a frequency, a second
parameter and two colours. Its images differ in position, rotation, zoom, shades, contrast, light and noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fewshot_env.worlds.canvas import (
    Array,
    Keys,
    Pixels,
    RandomStreams,
    add_light_and_noise,
    blend,
    colour,
    pixel_grid,
    rotate,
)

Pattern = Callable[[Array, Array, float, RandomStreams], Array]


def draw(class_key: int, image_keys: Keys, size: int) -> Pixels:
    """Draw images of a class; arguments and result are those of `glyphs.draw`."""
    of_class, random = RandomStreams([class_key]), RandomStreams(image_keys)
    pattern = PATTERNS[of_class.integer(0, len(PATTERNS))]
    direction, frequency, parameter = (float(of_class.uniform(*r)[0]) for r in ((0, math.pi), (1.4, 3.0), (0, 1)))
    hue, saturation = of_class.uniform(0, 1, 2)[0], of_class.uniform(0.3, 0.9, 2)[0]

    x, y = rotate(*pixel_grid(size), direction + random.uniform(-0.2, 0.2, 1, 1))
    zoom = frequency * random.uniform(0.8, 1.25, 1, 1)
    x, y = x * zoom + random.uniform(0, 50, 1, 1), y * zoom + random.uniform(0, 50, 1, 1)
    cover = pattern(x, y, parameter, random)

    def shade(i: int, value: float) -> Array:
        near = hue[i] + random.uniform(-0.08, 0.08)
        return colour(near, (saturation[i] + random.uniform(-0.15, 0.15)).clip(0, 1), value * random.uniform(0.7, 1.1))

    picture = blend(shade(0, 0.35), shade(1, 0.9), cover * random.uniform(0.7, 1.0, 1, 1))
    return add_light_and_noise(picture, random, 0.15)


def stripes(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """Bars; parameter: their share of the period."""
    return _edge(_wave(x) - 0.6 * (parameter - 0.5))


def checks(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """A chessboard; parameter: how long its fields are."""
    return _edge(2 * _wave(x) * _wave(y / (1 + parameter)))


def dots(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """Discs on a lattice; parameter: their radius."""
    return _edge(4 * (0.2 + 0.2 * parameter - np.hypot(x % 1 - 0.5, y % 1 - 0.5)))


def rings(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """Circles around one point in the picture; parameter: the rings' width."""
    across, down = (c - c.mean((1, 2), keepdims=True) + random.uniform(-1, 1, 1, 1) for c in (x, y))
    return _edge(_wave(np.hypot(across, down)) - 0.6 * (parameter - 0.5))


def waves(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """Curved bars; parameter: how far they bend."""
    return _edge(_wave(x + (0.15 + 0.25 * parameter) * _wave(y * 0.7)))


def bricks(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """Rows that are shifted by half a brick; parameter: how long the bricks are."""
    row, length = np.floor(y), 1.2 + 1.2 * parameter
    joint = np.minimum(np.abs(y % 1 - 0.5), 0.5)
    gap = np.abs((x / length + row / 2) % 1 - 0.5) * length
    return _edge(8 * np.minimum(0.4 - joint, length / 2 - 0.1 - gap))


def noise(x: Array, y: Array, parameter: float, random: RandomStreams) -> Array:
    """Random clouds; parameter: how elongated they are."""
    angle, phase = random.uniform(0, 2 * math.pi, 8), random.uniform(0, 1, 8)
    total = np.zeros_like(x)
    for k in range(8):
        a = angle[:, k, None, None]
        total += _wave(x * np.cos(a) + y * np.sin(a) * (1 - 0.8 * parameter) + phase[:, k, None, None])
    return _edge(total / 3)


PATTERNS: tuple[Pattern, ...] = (stripes, checks, dots, rings, waves, bricks, noise)


def _wave(x: Array) -> Array:
    """A sine wave of period 1."""
    return np.asarray(np.sin(2 * math.pi * x))


def _edge(height: Array) -> Array:
    """1 above 0 and 0 below, with a soft edge."""
    return np.asarray((0.5 + 1.5 * height).clip(0, 1))
