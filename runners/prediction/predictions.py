"""Predictions: the answers of `fsl predict`, for people, spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNSURE = 0.5
"""A prediction is unsure where the second class has more than this share of the first one's probability."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        file: the image.
        predicted: the most probable class.
        probabilities: of every class; they sum to 1.
    """

    file: Path
    predicted: str
    probabilities: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """The probability of the predicted class."""
        return self.probabilities[self.predicted]

    @property
    def unsure(self) -> bool:
        """Whether another class is almost as probable."""
        second = sorted(self.probabilities.values())[-2]
        return second > UNSURE * self.confidence


@dataclass(frozen=True)
class Predictions:
    """The answers for all images.

    Attributes:
        classes: their names, sorted.
        support: the number of support images of each class.
        predictions: one for each image that could be read, in order.
        unreadable: the others, and why.
        left_out: images of the support that cannot be read, and why.
        notes: how it was done, one line each.
    """

    classes: tuple[str, ...]
    support: Mapping[str, int]
    predictions: tuple[Prediction, ...]
    unreadable: Mapping[Path, str]
    left_out: Mapping[Path, str]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain types."""
        rows = [
            {"file": str(p.file), "predicted": p.predicted, "unsure": p.unsure, "probabilities": dict(p.probabilities)}
            for p in self.predictions
        ]
        unreadable, left_out = (
            {str(file): reason for file, reason in files.items()} for files in (self.unreadable, self.left_out)
        )
        return {
            "classes": list(self.classes), "support": dict(self.support), "predictions": rows,
            "unreadable": unreadable, "left_out_of_support": left_out, "notes": list(self.notes),
        }  # fmt: skip

    def as_csv(self) -> str:
        """One line for each image: its file, the predicted class, the probability of every class; unreadable last."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["file", "predicted", *(f"p({name})" for name in self.classes)])
        for p in self.predictions:
            rows.writerow([p.file, p.predicted, *(f"{p.probabilities[name]:.6f}" for name in self.classes)])
        rows.writerows([file, "", *[""] * len(self.classes)] for file in self.unreadable)
        return text.getvalue()
