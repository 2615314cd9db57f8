"""Classifier: a trained agent that was adapted to labelled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.base import Agent
from agents.neural import NeuralAgent, verify_statistics
from fewshot_env.data.pixels import colour
from fewshot_env.episode import Split
from fewshot_env.errors import FewShotError
from runners.prediction.images import find_support, read_images
from runners.prediction.trained import Trained

Seen = Callable[[Path, NDArray[np.uint8]], None]
"""Is shown every image that was read, uint8 [size, size, 3]."""


@dataclass(frozen=True)
class Classifier:
    """An agent that was adapted to labelled images.

    Attributes:
        agent: in eval mode.
        adapted: what its `adapt` gave for the support.
        classes: their names, in the order of its outputs.
        support: the number of support images of each class.
        alone: whether images are answered one by one, since it is not known whether others would change the answer.
        notes: how it was made, one line each.
    """

    agent: Agent
    adapted: Any
    classes: tuple[str, ...]
    support: Mapping[str, int]
    alone: bool
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Height and width of its images."""
        return int(self.agent.spec.in_shape[1])

    def probabilities(self, x: Tensor) -> Tensor:
        """[Q, N] of images [Q, 3, size, size] in [0, 1]."""
        return probabilities(self.agent, self.adapted, x, len(self.classes))


def probabilities(agent: Agent, adapted: Any, x: Tensor, n: int) -> Tensor:
    """Probabilities [Q, n] of images x [Q, 3, size, size] under an adaptation to one task of n classes."""
    scores = agent.predict(adapted, x.unsqueeze(0))[0, :, :n]
    return scores.softmax(-1)


def make_classifier(
    trained: Trained,
    support: Path,
    transductive: bool,
    device: torch.device,
    background: str,
    settings: Mapping[str, Any],
    unreadable: dict[Path, str],
    seen: Mapping[str, Seen] | None = None,
) -> Classifier:
    """Adapt a trained agent to a folder of labelled images.

    Args:
        trained: the agent.
        support: holds a folder of images for each class.
        transductive: whether batch normalization uses all images of a call together.
        device: where to compute.
        background: what transparent parts of images are laid over, a colour.
        settings: of the agent, where they differ from those of its training.
        unreadable: gets the support's images that cannot be read.
        seen: for each class, is shown its images.

    Raises:
        FewShotError: where the agent takes no such images or no such number of classes, or a class has no image.
    """
    spec = trained.spec
    shape = spec.in_shape
    if spec.kind != "classification" or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise FewShotError(
            f"{trained.file} was trained for {spec.kind} of items {'x'.join(map(str, shape))}, not for classification "
            "of RGB images, so it cannot answer for image files; use a run on images"
        )
    classes = find_support(support)
    trained.verify(settings)
    changes = _normalization(trained, transductive, settings)
    agent, note = trained.for_classes(len(classes), device, changes)
    alone = not (transductive or agent.answers_alone)
    pixels, labels = [], []
    for label, (name, found) in enumerate(classes.items()):
        bad = found.unreadable
        for files, part in read_images(found.files, shape[1], colour(background), bad):
            pixels.append(part)
            labels += [label] * len(files)
            if seen is not None and name in seen:
                for file, image in zip(files, part, strict=True):
                    seen[name](file, image)
        unreadable |= bad
        if label not in labels:
            first = next(iter(bad))
            raise FewShotError(f"no image of {support / name} can be read ({first.name}: {bad[first]}); replace them")
    counts = {name: labels.count(label) for label, name in enumerate(classes)}
    x = torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).unsqueeze(0)
    split = Split(x, torch.tensor(labels).unsqueeze(0)).to(device)
    with torch.no_grad():
        adapted = agent.adapt(split)
    shots = sorted(set(counts.values()))
    of_each = f"{shots[0]}" if len(shots) == 1 else f"{shots[0]} to {shots[-1]}"
    notes = [
        f"{agent.name} adapted to {len(classes)} classes with {of_each} images each",
        _in_words(agent, transductive, alone),
        note,
    ]
    return Classifier(agent, adapted, tuple(classes), counts, alone, tuple(n for n in notes if n))


def _normalization(trained: Trained, transductive: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of batch normalization: the support's statistics in place of the query's.

    Raises FewShotError where the settings contradict `transductive`, or ask for statistics that were not gathered.
    """
    own = trained.content["trained"]["settings"]
    cls = trained.agent_class
    together = transductive and cls is not None and not cls.answers_alone  # it uses all images in its own way
    if "bn" not in own or together:
        return dict(settings)
    asked = settings.get("bn")
    if asked is not None and transductive != (asked == "transductive"):
        raise FewShotError(f"agent.bn={asked} contradicts {'' if transductive else 'the missing '}--transductive; "
                           "give one of them")  # fmt: skip
    verify_statistics(asked, own)
    bn = "transductive" if transductive else asked or own["bn"]
    bn = "support" if bn == "transductive" and not transductive else bn
    return {**settings, **({} if bn == own["bn"] else {"bn": bn})}


def _in_words(agent: Agent, transductive: bool, alone: bool) -> str:
    """On what an answer depends."""
    if alone:
        return "images are answered one by one, so that no answer depends on the other images"
    if isinstance(agent, NeuralAgent) and agent.backbone.n_stats and agent.answers_alone:
        if transductive:
            return "batch normalization uses all images together (--transductive): an answer depends on the others"
        whose = {"support": "the support images", "running": "training"}[agent.config.bn]
        return f"batch normalization uses the statistics of {whose}: no answer depends on the other images"
    if transductive and not agent.answers_alone:
        return "all images are answered together (--transductive): an answer may depend on others"
    return "no answer depends on the other images"
