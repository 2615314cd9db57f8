"""Tasks from a world: images are drawn when a task first needs their class, and kept.

Drawing anew for every task would cost a good part of learning from it, and drawing a whole world first would cost
seconds at every start. Equal on every machine up to the last bit of numpy's sine: a pixel may differ by 1 of 255.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fewshot_env.images import ImageConfig, ImageSampler, named
from fewshot_env.rng import SPLITS, random_bits
from fewshot_env.sampler import TaskConfig
from fewshot_env.store import ImageClass, ImageStore
from fewshot_env.worlds import glyphs, textures
from fewshot_env.worlds.canvas import Keys, Pixels

Draw = Callable[[int, Keys, int], Pixels]
"""Class key, keys of n images and pixels of a side -> the images, uint8 [n, size, size, 3]."""

CLASSES = {"train": 200, "val": 50, "test": 50}
IMAGES = 40
"""Images of a class."""


class WorldConfig(ImageConfig):
    """Settings of tasks from a world."""

    size: int = Field(28, ge=16, le=256, description="pixels of a side; 84 to pair with the data sets")


class World:
    """The images of a world at one size, each drawn once in a process."""

    def __init__(self, name: str, draw: Draw, size: int) -> None:
        key = int.from_bytes(name.encode(), "big") % 2**64
        self._class_keys = random_bits([key], 0, sum(CLASSES.values()))[0]
        self._draw = draw
        self._drawn = np.zeros(len(self._class_keys), bool)
        images = np.empty((len(self._class_keys) * IMAGES, size, size, 3), np.uint8)  # memory comes with the drawing
        splits = [split for split in SPLITS for _ in range(CLASSES[split])]
        classes = tuple(ImageClass(f"{name}{k}", split, k * IMAGES, IMAGES) for k, split in enumerate(splits))
        self.store = ImageStore(Path(name), name, images, classes, {"sha256": "drawn"})

    def need(self, items: NDArray[np.int64]) -> None:
        """Draw the classes of images `items` that have not been drawn."""
        classes = np.unique(items // IMAGES)
        for k in classes[~self._drawn[classes]]:
            key = self._class_keys[k]
            images = self._draw(int(key), random_bits([key], 2**32, IMAGES)[0], self.store.images.shape[1])
            self.store.images[k * IMAGES : (k + 1) * IMAGES] = images
            self._drawn[k] = True


_world = cache(World)


class WorldSampler(ImageSampler):
    """Image tasks of a world: 200 / 50 / 50 classes of 40 images."""

    Config: ClassVar[type[TaskConfig]] = WorldConfig

    def __init__(self, name: str, draw: Draw, **settings: Any) -> None:
        config = WorldConfig(**settings)
        self.world = _world(name, draw, config.size)
        super().__init__(self.world.store, **config.model_dump(exclude={"size"}))
        self.config = config
        self.fingerprint = f"{name}-v0 {named(config)}"

    def _read(self, items: NDArray[np.int64]) -> Tensor:
        self.world.need(items)
        return super()._read(items)


class Glyphs(WorldSampler):
    """Characters of scripts that nobody writes; their colours tell nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("glyphs", glyphs.draw, **settings)


class Textures(WorldSampler):
    """Patterns; their colours are a hint."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("textures", textures.draw, **settings)
