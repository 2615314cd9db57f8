"""Decode an image of any mode and format into RGB pixels of one size, by stated rules.

Orientation is applied (EXIF), transparency is laid over a background, integers and floats are scaled by the range of
their mode and never by what an image happens to hold. What has no known range is refused.
"""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewshot_env.errors import FewShotError
from fewshot_env.store import USUAL_SIZE

if TYPE_CHECKING:
    from PIL import Image

SIZE = USUAL_SIZE
MIN_SIDE = 8
WHITE = (255, 255, 255)
NEARLY_CONSTANT = 8
"""The largest difference between two values (of 255) of an image that is reported as constant or nearly so."""

Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]

SAFE_FORMATS = (
    "JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA", "SGI", "ICO",
)  # fmt: skip
"""Decoded by Pillow itself (EPS, for example, is a program that another program would run)."""

PLUGINS = {"HEIF": ("pillow_heif", "register_heif_opener"), "AVIF": ("pillow_avif", ""), "JXL": ("pillow_jxl", "")}
"""Formats that are read where a plug-in of Pillow is installed: its module, and the function that registers it."""

NO_DECODER = frozenset({
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".webp", ".svg", ".psd", ".eps", ".ai", ".xcf", ".exr", ".hdr",
    ".dcm", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".icns", ".dds",
})  # fmt: skip
"""File endings of images that may have no decoder here; such files are counted, not read."""


@cache
def formats() -> tuple[str, ...]:
    """The formats that are decoded on this machine, as Pillow names them."""
    from PIL import Image, features

    Image.init()
    lacks = {name for name, feature in (("WEBP", "webp"), ("JPEG2000", "jpg_2000"), ("AVIF", "avif"))
             if not features.check(feature)}  # fmt: skip
    known = [name for name in SAFE_FORMATS if name in Image.OPEN and name not in lacks]
    for name, (module, register) in PLUGINS.items():
        with suppress(ImportError):
            if name not in known:
                plugin = import_module(module)
                getattr(plugin, register)() if register else None
                known.append(name)
    return tuple(known)


@cache
def endings() -> frozenset[str]:
    """The file endings of those formats: ".jpg", ".png", ..."""
    from PIL import Image

    known = formats()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in known)


def is_image(file: Path) -> bool:
    """Whether a file of an unusual name, or without an ending, begins as an image that can be decoded."""
    from PIL import Image

    try:
        with Image.open(file, formats=[name for name in formats() if name != "TGA"]):  # TGA has no signature
            return True
    except Exception:  # decoders raise almost anything
        return False


def colour(text: str) -> Colour:
    """A colour from its name or "#rrggbb"; raises FewShotError for anything else."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise FewShotError(f"--background is {text!r}, but must be a colour: white, black, '#808080'") from error


@dataclass(frozen=True)
class Decoded:
    """An image that was read.

    Attributes:
        rgb: uint8 [size, size, 3].
        frames: how many it has; the first is taken.
    """

    rgb: NDArray[np.uint8]
    frames: int = 1

    @property
    def nearly_constant(self) -> bool:
        """Whether all its values are (almost) the same: a picture of nothing, or one that was destroyed before."""
        return int(self.rgb.max()) - int(self.rgb.min()) <= NEARLY_CONSTANT


def decode(
    source: Path | NDArray[np.uint8], box: Box | None = None, background: Colour = WHITE, size: int = SIZE
) -> Decoded:
    """Read an image, crop it, and resize it to a square without keeping its aspect ratio (as the published code does).

    Args:
        source: a file, or uint8 [H, W, 3].
        box: the part to keep, (left, top, right, bottom) in pixels as they are stored; None keeps the whole image.
        background: what transparent parts are laid over.
        size: the side of the square, in pixels.

    Raises:
        FewShotError: where the file is not a readable image, has values without a known range, or a side of fewer
            than 8 pixels. The message says what is wrong, but not of which image.
    """
    from PIL import Image

    try:
        if isinstance(source, np.ndarray):
            if source.shape == (size, size, 3) and box is None:
                return Decoded(source)
            return Decoded(_resized(_cropped(Image.fromarray(source), box), size))
        with warnings.catch_warnings(), Image.open(source, formats=formats()) as image:
            warnings.simplefilter("ignore")  # of what is unusual in a file that can be read
            frames, kind = int(getattr(image, "n_frames", 1)), image.format
            upright = _upright(_cropped(image, box))
            return Decoded(_resized(_rgb(upright, kind, background), size), frames)
    except Image.DecompressionBombError as error:
        raise FewShotError("it has more than 178 million pixels; make it smaller") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise almost anything for damaged files
        raise FewShotError(str(error) or type(error).__name__) from error


def _cropped(image: Image.Image, box: Box | None) -> Image.Image:
    if box is None:
        return image
    left, top, right, bottom = max(0, int(box[0])), max(0, int(box[1])), math.ceil(box[2]), math.ceil(box[3])
    return image.crop((left, top, min(image.width, right), min(image.height, bottom)))


def _upright(image: Image.Image) -> Image.Image:
    """The image as it is meant to be seen: a phone stores its photos lying, with a note (EXIF) how to turn them."""
    from PIL import ImageOps

    image.load()
    with suppress(Exception):  # a damaged note says nothing
        return ImageOps.exif_transpose(image)
    return image


def _rgb(image: Image.Image, kind: str | None, background: Colour) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):  # those hold 16 bits as I
        values = np.asarray(image).astype(np.int64)
        grey = np.repeat(((values + 128) // 257).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[values == clear] = background
        return Image.fromarray(grey)
    if image.mode == "F":
        floats = np.asarray(image)
        low, high = float(floats.min()), float(floats.max())
        if not 0 <= low <= high <= 1:
            raise ValueError(f"its floats lie from {low:g} to {high:g}, but must lie in [0, 1]; save it with 8 bits")
        return Image.fromarray(np.rint(255 * floats).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        raise ValueError("its integers have 32 bits and no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        base = Image.new("RGBA", image.size, (*background, 255))
        base.alpha_composite(image.convert("RGBA"))
        image = base
    return image.convert("RGB")


def _resized(image: Image.Image, size: int) -> NDArray[np.uint8]:
    from PIL import Image

    if min(image.size) < MIN_SIDE:
        raise ValueError(f"it has {image.width}x{image.height} pixels, fewer than {MIN_SIDE} on a side")
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC))
