"""Textures: coloured patterns without any outline.

A class is a pattern (stripes, checks, dots, rings, waves, bricks or noise) with its direction, its fineness and a
second measure, and two colours. Its images differ in place, turn, zoom, shades, contrast, light and noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fewshot_env.worlds.canvas import Array, Dice, Keys, Pixels, colour, painted, photographed, plane, turned

Pattern = Callable[[Array, Array, float, Dice], Array]


def draw(class_key: int, image_keys: Keys, size: int) -> Pixels:
    """Images uint8 [n, size, size, 3] of a class."""
    of_class, dice = Dice([class_key]), Dice(image_keys)
    pattern = PATTERNS[of_class.number(0, len(PATTERNS))]
    direction, fineness, measure = (float(of_class.between(*r)[0]) for r in ((0, math.pi), (1.4, 3.0), (0, 1)))
    hue, saturation = of_class.between(0, 1, 2)[0], of_class.between(0.3, 0.9, 2)[0]

    x, y = turned(*plane(size), direction + dice.between(-0.2, 0.2, 1, 1))
    zoom = fineness * dice.between(0.8, 1.25, 1, 1)
    x, y = x * zoom + dice.between(0, 50, 1, 1), y * zoom + dice.between(0, 50, 1, 1)
    cover = pattern(x, y, measure, dice)

    def shade(i: int, value: float) -> Array:
        near = hue[i] + dice.between(-0.08, 0.08)
        return colour(near, (saturation[i] + dice.between(-0.15, 0.15)).clip(0, 1), value * dice.between(0.7, 1.1))

    picture = painted(shade(0, 0.35), shade(1, 0.9), cover * dice.between(0.7, 1.0, 1, 1))
    return photographed(picture, dice, 0.15)


def stripes(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """Bars; measure: their share of the period."""
    return _edge(_wave(x) - 0.6 * (measure - 0.5))


def checks(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """A board; measure: how long its fields are."""
    return _edge(2 * _wave(x) * _wave(y / (1 + measure)))


def dots(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """Discs on a lattice; measure: their radius."""
    return _edge(4 * (0.2 + 0.2 * measure - np.hypot(x % 1 - 0.5, y % 1 - 0.5)))


def rings(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """Circles around one point in the picture; measure: the rings' width."""
    across, down = (c - c.mean((1, 2), keepdims=True) + dice.between(-1, 1, 1, 1) for c in (x, y))
    return _edge(_wave(np.hypot(across, down)) - 0.6 * (measure - 0.5))


def waves(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """Bent bars; measure: how far they bend."""
    return _edge(_wave(x + (0.15 + 0.25 * measure) * _wave(y * 0.7)))


def bricks(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """Rows that are shifted by half a brick; measure: how long the bricks are."""
    row, length = np.floor(y), 1.2 + 1.2 * measure
    joint = np.minimum(np.abs(y % 1 - 0.5), 0.5)
    gap = np.abs((x / length + row / 2) % 1 - 0.5) * length
    return _edge(8 * np.minimum(0.4 - joint, length / 2 - 0.1 - gap))


def noise(x: Array, y: Array, measure: float, dice: Dice) -> Array:
    """Clouds of one fineness; measure: how far they are drawn out."""
    angle, phase = dice.between(0, 2 * math.pi, 8), dice.between(0, 1, 8)
    total = np.zeros_like(x)
    for k in range(8):
        a = angle[:, k, None, None]
        total += _wave(x * np.cos(a) + y * np.sin(a) * (1 - 0.8 * measure) + phase[:, k, None, None])
    return _edge(total / 3)


PATTERNS: tuple[Pattern, ...] = (stripes, checks, dots, rings, waves, bricks, noise)


def _wave(x: Array) -> Array:
    """A sine wave of period 1."""
    return np.asarray(np.sin(2 * math.pi * x))


def _edge(height: Array) -> Array:
    """1 above 0 and 0 below, with a soft edge."""
    return np.asarray((0.5 + 1.5 * height).clip(0, 1))
