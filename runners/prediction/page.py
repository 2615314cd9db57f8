"""The page of `fsl predict --html`: thumbnails grouped by prediction, without external files."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runners.prediction.predictions import Predictions

THUMBNAIL = 96
"""Pixels of a side."""

MOST_SUPPORT = 10
"""Support images of a class that are shown."""


class Thumbnails:
    """Small JPEGs of the images that it was shown, as data URLs by file."""

    def __init__(self, most: int | None = None) -> None:
        self.urls: dict[Path, str] = {}
        self._most = most

    def __call__(self, file: Path, pixels: NDArray[np.uint8]) -> None:
        """Keep one of this image, unless there are enough."""
        from PIL import Image

        if self._most is not None and len(self.urls) >= self._most:
            return
        image = Image.fromarray(pixels)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=80)
        self.urls[file] = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def render(found: Predictions, title: str, images: Thumbnails, support: dict[str, Thumbnails]) -> str:
    """The page as text: a section for each class, with the most confident first and the unsure ones marked."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string((Path(__file__).parent / "page.html").read_text())
    groups = []
    for name in found.classes:
        of_class = sorted((p for p in found.predictions if p.predicted == name), key=lambda p: -p.confidence)
        shown = support[name].urls if name in support else {}
        groups.append({"name": name, "predictions": of_class, "support": shown, "shots": found.support[name]})
    text: str = template.render(
        title=title,
        found=found,
        groups=groups,
        images=images.urls,
        unsure=sum(p.unsure for p in found.predictions),
        side=THUMBNAIL,
    )
    return text
