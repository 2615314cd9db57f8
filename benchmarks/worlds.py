"""Synthetic images: what drawing and sampling cost, and a contact sheet: `python benchmarks/worlds.py [SHEET.png]`.

The sheet has 12 images (columns) of 8 test classes (rows) of each data set. Times are the best of several rounds, one
thread, 28x28; an episode is 5-way, 105 images (5 support, 16 query each), of classes that were drawn before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from fewshot_env.rng import task_seeds
from fewshot_env.worlds import glyphs, textures
from fewshot_env.worlds.sampler import IMAGES, Glyphs, SyntheticImages, Textures
from runners.config.machine import tune


def best(work: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Print the table, and write the sheet if a file is named."""
    tune(1)
    print("| world | ms to draw a class of 40 | s to draw the world | episodes/s, drawn |\n|---|---|---|---|")
    rows, few = [], np.arange(0, 60 * IMAGES, IMAGES)
    for name, draw, family in (("glyphs", glyphs.draw, Glyphs), ("textures", textures.draw, Textures)):
        drawing = best(lambda name=name, draw=draw: SyntheticImages(name, draw, 28).draw_missing(few)) / len(few)
        sampler = family(n_shot=5, n_query=16)
        sampler.sample(task_seeds(0, "train", 0, 1000))
        sampling = best(lambda sample=sampler.sample: [sample(task_seeds(0, "train", i, 4)) for i in range(0, 400, 4)])
        print(f"| {name} | {1000 * drawing:.1f} | {300 * drawing:.1f} | {400 / sampling:.0f} |")
        world = SyntheticImages(name, draw, 28)
        first = [250 + k for k in range(8)]
        world.draw_missing(np.array(first) * IMAGES)
        rows += [np.concatenate(list(world.store.images[k * IMAGES : k * IMAGES + 12]), 1) for k in first]
    if sys.argv[1:]:
        sheet = Image.fromarray(np.concatenate(rows))
        sheet.resize((3 * sheet.width, 3 * sheet.height), Image.Resampling.NEAREST).save(sys.argv[1])


if __name__ == "__main__":
    main()
