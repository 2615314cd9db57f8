"""Tasks from the synthetic data sets: the images of a class are drawn when a task first needs them, and then kept.

Drawing them anew for every task would take a large part of the training time; drawing all of them first would add
seconds to every start. Images are equal on every machine except for the last bit of numpy's sine: a pixel may differ
by 1 of 255.
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

from fewshot_env.images import ImageConfig, ImageSampler, tasks_key
from fewshot_env.rng import SPLITS, random_bits
from fewshot_env.sampler import TaskConfig
from fewshot_env.store import ImageClass, ImageStore
from fewshot_env.worlds import glyphs, textures
from fewshot_env.worlds.canvas import Keys, Pixels

Draw = Callable[[int, Keys, int], Pixels]
"""Draws images: (class key, keys of n images, size in pixels) -> uint8 [n, size, size, 3]."""

CLASSES = {"train": 200, "val": 50, "test": 50}
IMAGES = 40
"""Images per class."""


class SyntheticConfig(ImageConfig):
    """Settings of tasks from a synthetic data set."""

    size: int = Field(28, ge=16, le=256, description="height and width in pixels; 84 to pair with real images")


class SyntheticImages:
    """The images of a synthetic data set at one size; each is drawn at most once in a process."""

    def __init__(self, name: str, draw: Draw, size: int) -> None:
        key = int.from_bytes(name.encode(), "big") % 2**64
        self._class_keys = random_bits([key], 0, sum(CLASSES.values()))[0]
        self._draw = draw
        self._is_drawn = np.zeros(len(self._class_keys), bool)
        images = np.empty((len(self._class_keys) * IMAGES, size, size, 3), np.uint8)  # uses memory once it is written
        splits = [split for split in SPLITS for _ in range(CLASSES[split])]
        classes = tuple(ImageClass(f"{name}{k}", split, k * IMAGES, IMAGES) for k, split in enumerate(splits))
        self.store = ImageStore(Path(name), name, images, classes, {"sha256": "drawn"})

    def draw_missing(self, items: NDArray[np.int64]) -> None:
        """Draw the classes of the images with numbers `items` that have not been drawn yet."""
        classes = np.unique(items // IMAGES)
        for k in classes[~self._is_drawn[classes]]:
            key = self._class_keys[k]
            images = self._draw(int(key), random_bits([key], 2**32, IMAGES)[0], self.store.images.shape[1])
            self.store.images[k * IMAGES : (k + 1) * IMAGES] = images
            self._is_drawn[k] = True


_images_of = cache(SyntheticImages)


class SyntheticSampler(ImageSampler):
    """Image tasks of a synthetic data set: 200 / 50 / 50 classes of 40 images, RGB, 28x28 by default.

    Args:
        name: the data set's name; it decides the classes.
        draw: draws the images of a class.
        settings: fields of `SyntheticConfig`: those of `ImageSampler`, and size (height and width in pixels).

    Raises:
        FewShotError: where the split has too few classes, or a class too few images, for such tasks.
        SettingError: where a setting is unknown or has a wrong value.
    """

    Config: ClassVar[type[TaskConfig]] = SyntheticConfig

    def __init__(self, name: str, draw: Draw, **settings: Any) -> None:
        config = SyntheticConfig(**settings)
        self.drawn = _images_of(name, draw, config.size)
        super().__init__(self.drawn.store, **config.model_dump(exclude={"size"}))
        self.config = config
        self.fingerprint = f"{name}-v0 {tasks_key(config)}"

    def _read(self, items: NDArray[np.int64]) -> Tensor:
        self.drawn.draw_missing(items)
        return super()._read(items)


class Glyphs(SyntheticSampler):
    """Invented characters; their colours carry no information about the class.

    Args:
        settings: as for `SyntheticSampler`.

    Example:
        >>> Glyphs(n_way=5, n_shot=1).sample([1]).support.x.shape
        torch.Size([1, 5, 3, 28, 28])
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("glyphs", glyphs.draw, **settings)


class Textures(SyntheticSampler):
    """Coloured patterns; their colours carry some information about the class.

    Args:
        settings: as for `SyntheticSampler`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("textures", textures.draw, **settings)
