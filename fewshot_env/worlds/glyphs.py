"""Glyphs: letters of scripts that nobody writes, in any ink on any ground.

A class is a skeleton of two to four straight or bent strokes between the nodes of a 3x3 grid. Its images differ in
hand (the strokes' ends wander), place, size, slant, turn, pen, ink, ground, scribbles beside it, light and noise.
Colour tells nothing of the class.
"""

from __future__ import annotations

import numpy as np

from fewshot_env.worlds.canvas import Array, Dice, Keys, Pixels, colour, painted, photographed, plane, turned

NODES = np.stack(np.meshgrid([-0.6, 0.0, 0.6], [-0.6, 0.0, 0.6]), -1).reshape(9, 2)
PIECES = 5  # straight pieces of a stroke


def draw(class_key: int, image_keys: Keys, size: int) -> Pixels:
    """Images uint8 [n, size, size, 3] of a class."""
    dice = Dice(image_keys)
    bones = skeleton(class_key)
    strokes = bones + dice.between(-0.07, 0.07, *bones.shape)  # [n, K, 3, 2]
    x, y = strokes[..., 0], strokes[..., 1]
    x = x * dice.between(0.8, 1.1, 1, 1) + dice.between(-0.25, 0.25, 1, 1) * y  # narrow or wide, slanted
    x, y = turned(x, y, dice.between(-0.25, 0.25, 1, 1))
    scale = dice.between(0.75, 1.1, 1, 1)
    strokes = np.stack([x * scale + dice.between(-0.15, 0.15, 1, 1), y * scale + dice.between(-0.15, 0.15, 1, 1)], -1)
    pen = dice.between(0.1, 0.2)

    hue, light_ground = dice.between(0, 1, 2), dice.between(0, 1) < 0.5
    faint, strong = dice.between(0.05, 0.3), dice.between(0.75, 1.0)
    shades = np.where(light_ground, [strong, faint], [faint, strong])
    ground = colour(hue[:, 0], dice.between(0, 0.7), shades[0])
    ink = colour(hue[:, 1], dice.between(0, 0.7), shades[1])

    start = dice.between(-0.95, 0.95, 2, 2)
    scribbles = np.stack([start, start + dice.between(-0.3, 0.3, 2, 2)], 2)
    scene = painted(ground, (ground + ink) / 2, covered(scribbles, pen / 2, size))
    return photographed(painted(scene, ink, covered(bent(strokes), pen, size)), dice, 0.2)


def skeleton(class_key: int) -> Array:
    """A class's strokes [K, 3, 2]: start, bend and end of each, centred, 1.3 wide or high."""
    dice = Dice([class_key])
    count, at, strokes = dice.number(2, 5), dice.number(0, 9), []
    for _ in range(count):
        to = (at + dice.number(1, 9)) % 9
        start, end = NODES[at], NODES[to]
        bow = (0.0, 0.0, -0.6, 0.6)[dice.number(0, 4)]
        strokes.append([start, (start + end) / 2 + bow * np.array([start[1] - end[1], end[0] - start[0]]), end])
        at = to if dice.number(0, 2) else dice.number(0, 9)  # goes on, or lifts the pen
    bones = np.array(strokes)
    low, high = bones.min((0, 1)), bones.max((0, 1))
    return np.asarray((bones - (low + high) / 2) * 1.3 / (high - low).max())


def bent(strokes: Array) -> Array:
    """Strokes [n, K, 3, 2] (start, bend, end of a Bezier curve) as straight pieces [n, K PIECES, 2, 2]."""
    t = np.linspace(0, 1, PIECES + 1)[:, None]
    a, b, c = strokes[:, :, None, 0], strokes[:, :, None, 1], strokes[:, :, None, 2]
    points = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c  # [n, K, PIECES + 1, 2]
    return np.stack([points[:, :, :-1], points[:, :, 1:]], 3).reshape(len(strokes), -1, 2, 2)


def covered(pieces: Array, pen: Array, size: int) -> Array:
    """How much of each pixel a round pen of width pen [n] covers, drawn along pieces [n, K, 2, 2]: [n, size, size]."""
    x, y = (c.astype(np.float32).reshape(-1) for c in plane(size))
    pieces = pieces.astype(np.float32)
    nearest = np.full((len(pieces), size * size), np.inf, np.float32)
    for k in range(pieces.shape[1]):
        (ax, ay), (bx, by) = (pieces[:, k, end].T[..., None] for end in (0, 1))
        dx, dy = bx - ax, by - ay
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9)).clip(0, 1)
        np.minimum(nearest, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2, out=nearest)
    inside = (pen[:, None] / 2 - np.sqrt(nearest)) * size / 2 + 0.5  # in pixels
    return inside.clip(0, 1).reshape(-1, size, size).astype(np.float64)
