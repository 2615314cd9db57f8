"""Write SourceImages as a prepared data set: the array image by image, then the index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_env import durable
from fewshot_env.data.pixels import Colour
from fewshot_env.data.source import SourceImage
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS
from fewshot_env.store import FORMAT, ImageClass, pixels_key

Progress = Callable[[Iterable[SourceImage]], Iterable[SourceImage]]


def write_store(
    folder: Path,
    name: str,
    sources: Sequence[SourceImage],
    facts: dict[str, Any],
    progress: Progress,
    skip_broken: bool,
    background: Colour,
    size: int,
) -> None:
    """Write images, sorted by split and class, as a prepared data set.

    The array is written, not memory-mapped: on a full disk a write raises an error, but a memory map kills the process.

    Args:
        folder: the folder to create.
        name: the data set's name.
        sources: the images.
        facts: entries to add to the index.
        progress: wraps the images to show progress while they are read.
        skip_broken: leave out images that cannot be read, and list them in the index ("skipped").
        background: what transparent parts of images are laid over.
        size: the side of the prepared images, in pixels.

    Raises:
        FewShotError: where an image cannot be read, or none with `skip_broken`.
        OSError: where `folder` cannot be written.
    """
    folder.mkdir()
    order = sorted(sources, key=lambda s: (SPLITS.index(s.split), s.class_name, s.name))
    digest = hashlib.sha256()
    counts: dict[tuple[str, str], int] = {}
    kept: list[str] = []
    skipped: list[str] = []
    constant: list[str] = []
    several_frames = 0
    splits_of: dict[bytes, set[str]] = {}
    with (folder / "images.npy").open("wb") as out:
        _header(out, len(order), size)
        for source in progress(order):
            try:
                decoded = source.decode(background, size)
            except FewShotError:
                if not skip_broken:
                    raise
                skipped.append(f"{source.class_name}/{source.name}")
                continue
            pixels = np.ascontiguousarray(decoded.rgb)
            several_frames += decoded.frames > 1
            if decoded.nearly_constant:
                constant.append(f"{source.class_name}/{source.name}")
            out.write(pixels.data)
            splits_of.setdefault(pixels_key(pixels), set()).add(source.split)
            digest.update(pixels.data)
            key = (source.class_name, source.split)
            counts[key] = counts.get(key, 0) + 1
            kept.append(source.name)
        out.seek(0)
        _header(out, len(kept), size)
    if not kept:
        raise FewShotError(f"none of the {len(order)} images of {name} can be read")
    ends = np.cumsum([0, *counts.values()]).tolist()
    classes = [ImageClass(*key, start, count) for (key, count), start in zip(counts.items(), ends, strict=False)]
    index = FORMAT | {"name": name, "sha256": digest.hexdigest()} | facts
    index |= {"skipped": skipped, "constant": constant, "several_frames": several_frames}
    index["across_splits"] = sum(len(splits) > 1 for splits in splits_of.values())
    index |= {"classes": [vars(c) for c in classes], "files": kept}
    durable.sync(folder / "images.npy")
    durable.write(folder / "index.json", json.dumps(index).encode())


def _header(out: Any, n: int, size: int) -> None:
    """Write the npy header of uint8 [n, size, size, 3]; numpy pads it, so that its length does not depend on n."""
    layout = {"descr": "|u1", "fortran_order": False, "shape": (n, size, size, 3)}
    np.lib.format.write_array_header_1_0(out, layout)
