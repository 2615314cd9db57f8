"""Glyphs: invented characters in random colours.

A class is a skeleton of two to four straight or curved strokes between the nodes of a 3x3 grid. Its images differ in
the ends of the strokes (jitter), position, size, slant, rotation, line width, colours of line and background, scribbles
beside the character, light and noise. Colour carries no information about the class.
"""

from __future__ import annotations

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

NODES = np.stack(np.meshgrid([-0.6, 0.0, 0.6], [-0.6, 0.0, 0.6]), -1).reshape(9, 2)
PIECES = 5  # straight pieces of a stroke


def draw(class_key: int, image_keys: Keys, size: int) -> Pixels:
    """Draw images of a class.

    Args:
        class_key: decides the class.
        image_keys: n integers; image i depends on the class and `image_keys[i]` only.
        size: height and width in pixels.

    Returns:
        uint8 [n, size, size, 3].
    """
    random = RandomStreams(image_keys)
    bones = skeleton(class_key)
    strokes = bones + random.uniform(-0.07, 0.07, *bones.shape)  # [n, K, 3, 2]
    x, y = strokes[..., 0], strokes[..., 1]
    x = x * random.uniform(0.8, 1.1, 1, 1) + random.uniform(-0.25, 0.25, 1, 1) * y  # narrow or wide, slanted
    x, y = rotate(x, y, random.uniform(-0.25, 0.25, 1, 1))
    scale = random.uniform(0.75, 1.1, 1, 1)
    strokes = np.stack(
        [x * scale + random.uniform(-0.15, 0.15, 1, 1), y * scale + random.uniform(-0.15, 0.15, 1, 1)], -1
    )
    pen = random.uniform(0.1, 0.2)

    hue, light_ground = random.uniform(0, 1, 2), random.uniform(0, 1) < 0.5
    faint, strong = random.uniform(0.05, 0.3), random.uniform(0.75, 1.0)
    shades = np.where(light_ground, [strong, faint], [faint, strong])
    ground = colour(hue[:, 0], random.uniform(0, 0.7), shades[0])
    ink = colour(hue[:, 1], random.uniform(0, 0.7), shades[1])

    start = random.uniform(-0.95, 0.95, 2, 2)
    scribbles = np.stack([start, start + random.uniform(-0.3, 0.3, 2, 2)], 2)
    scene = blend(ground, (ground + ink) / 2, stroke_coverage(scribbles, pen / 2, size))
    return add_light_and_noise(blend(scene, ink, stroke_coverage(bezier_pieces(strokes), pen, size)), random, 0.2)


def skeleton(class_key: int) -> Array:
    """A class's strokes [K, 3, 2]: start, control point and end of each; centred, its longer side is 1.3."""
    random = RandomStreams([class_key])
    count, at, strokes = random.integer(2, 5), random.integer(0, 9), []
    for _ in range(count):
        to = (at + random.integer(1, 9)) % 9
        start, end = NODES[at], NODES[to]
        bow = (0.0, 0.0, -0.6, 0.6)[random.integer(0, 4)]
        strokes.append([start, (start + end) / 2 + bow * np.array([start[1] - end[1], end[0] - start[0]]), end])
        at = to if random.integer(0, 2) else random.integer(0, 9)  # the next stroke starts here, or somewhere else
    bones = np.array(strokes)
    low, high = bones.min((0, 1)), bones.max((0, 1))
    return np.asarray((bones - (low + high) / 2) * 1.3 / (high - low).max())


def bezier_pieces(strokes: Array) -> Array:
    """Approximate strokes [n, K, 3, 2] (quadratic Bezier curves) by straight pieces [n, K PIECES, 2, 2]."""
    t = np.linspace(0, 1, PIECES + 1)[:, None]
    a, b, c = strokes[:, :, None, 0], strokes[:, :, None, 1], strokes[:, :, None, 2]
    points = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c  # [n, K, PIECES + 1, 2]
    return np.stack([points[:, :, :-1], points[:, :, 1:]], 3).reshape(len(strokes), -1, 2, 2)


def stroke_coverage(pieces: Array, pen: Array, size: int) -> Array:
    """The part of each pixel that lines of width pen [n] along pieces [n, K, 2, 2] cover: [n, size, size]."""
    x, y = (c.astype(np.float32).reshape(-1) for c in pixel_grid(size))
    pieces = pieces.astype(np.float32)
    nearest = np.full((len(pieces), size * size), np.inf, np.float32)
    for k in range(pieces.shape[1]):
        (ax, ay), (bx, by) = (pieces[:, k, end].T[..., None] for end in (0, 1))
        dx, dy = bx - ax, by - ay
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9)).clip(0, 1)
        np.minimum(nearest, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2, out=nearest)
    inside = (pen[:, None] / 2 - np.sqrt(nearest)) * size / 2 + 0.5  # in pixels
    return inside.clip(0, 1).reshape(-1, size, size).astype(np.float64)
