"""Predict the classes of new images from a few labelled ones, with a trained agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_env.data.pixels import colour
from fewshot_env.errors import FewShotError
from runners.prediction.classifier import Classifier, Seen, make_classifier
from runners.prediction.images import Found, find_images, read_images
from runners.prediction.predictions import Prediction, Predictions
from runners.prediction.trained import Trained


def predict(
    trained: Trained,
    support: Path,
    images: Sequence[Path],
    transductive: bool,
    device: torch.device,
    background: str = "white",
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda parts, total: parts,
    seen_support: Mapping[str, Seen] | None = None,
    seen: Seen = lambda file, pixels: None,
) -> Predictions:
    """Predict the classes of images.

    Args:
        trained: the agent.
        support: holds a folder of images for each class.
        images: files and folders.
        transductive: whether batch normalization uses all images together.
        device: where to compute.
        background: what transparent parts of images are laid over, a colour.
        settings: of the agent, where they differ from those of its training.
        progress: wraps the parts that are read, given the number of images.
        seen_support: for each class, is shown its images.
        seen: is shown every image.

    Raises:
        FewShotError: as `make_classifier`, and where there are no images, or none can be read.
    """
    queries = find_images(images)
    left_out: dict[Path, str] = {}
    classifier = make_classifier(
        trained, support, transductive, device, background, settings or {}, left_out, seen_support
    )
    classes = classifier.classes
    rows: list[Prediction] = []
    for files, x in _parts(classifier, queries, background, transductive, progress, seen):
        with torch.no_grad():
            found = classifier.probabilities(x.to(device).float() / 255)
        for file, row in zip(files, found.tolist(), strict=True):
            if not math.isfinite(sum(row)):
                queries.unreadable[file] = "its scores are not finite: the adaptation diverged"
                continue
            of_class = dict(zip(classes, row, strict=True))
            rows.append(Prediction(file, max(of_class, key=of_class.__getitem__), of_class))
    if not rows:
        first = next(iter(queries.unreadable))
        raise FewShotError(
            f"none of the {len(queries.unreadable)} images can be answered ({first}: {queries.unreadable[first]})"
        )
    return Predictions(classes, classifier.support, tuple(rows), queries.unreadable, left_out, classifier.notes)


def _parts(
    classifier: Classifier,
    queries: Found,
    background: str,
    transductive: bool,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
    seen: Seen,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Files and uint8 [Q, 3, size, size] that are answered together."""
    read = read_images(queries.files, classifier.size, colour(background), queries.unreadable)
    whole: list[tuple[list[Path], Tensor]] = []
    for files, pixels in progress(read, len(queries.files)):
        for file, image in zip(files, pixels, strict=True):
            seen(file, image)
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if transductive:
            whole.append((files, x))
        elif classifier.alone:
            yield from (([file], x[i : i + 1]) for i, file in enumerate(files))
        else:
            yield files, x
    if whole:
        yield [file for files, _ in whole for file in files], torch.cat([x for _, x in whole])
