"""Checkpoints: one file of tensors and plain types, written aside and renamed, loaded without unpickling code."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from fewshot_env import durable
from fewshot_env.errors import FewShotError

FORMAT = {"format": "fewshot-checkpoint", "version": 1}


def save(file: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors and plain types) so that `file` is always whole: the old or the new one.

    Raises OSError where it can not be written.
    """
    buffer = io.BytesIO()  # torch's own writer does not pass on what a full disk says
    torch.save(FORMAT | content, buffer)
    durable.write(file, buffer.getvalue())


Model = TypeVar("Model", bound=BaseModel)


def fitting(model: type[Model], content: dict[str, Any], file: Path) -> Model:
    """The part of a checkpoint that `model` describes; raises FewShotError where it is of another form."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise FewShotError(
            f"the checkpoint {file} is not one of a run (its {key} is amiss); use another run, or start anew"
        ) from error


def load(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save` wrote; raises FewShotError for a missing, damaged or foreign file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that we refuse anyway
            content = torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise FewShotError(f"there is no checkpoint {file}; name the folder of a run") from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise FewShotError(
            f"the checkpoint {file} is damaged or not one of ours; use another run, or start anew"
        ) from error
    if not isinstance(content, dict) or {k: content.get(k) for k in FORMAT} != FORMAT:
        raise FewShotError(
            f"{file} is not a checkpoint of fsl (version {FORMAT['version']}); use another run, or start anew"
        )
    return content
