"""What `step` takes as answers: labels, scores or values; anything else is refused with one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError


def read_answers(spec: TaskSpec, given: Any, batch: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Answers as `TaskSpec.score` takes them.

    Args:
        spec: of the tasks.
        given: for classification labels [*batch], whole numbers in [0, N), or scores [*batch, n] with 1 < n <= N
            (of N = 1, one score); for regression values [*batch, N], or [*batch] where N = 1.
        batch: (Q,) for one task, (B, Q) for B.
        device: where the answers are wanted.

    Returns:
        Detached, on `device`: labels [*batch], scores [*batch, n] or values [*batch, N].

    Raises:
        FewShotError: where `given` is something else, or a label is out of range.
    """
    try:
        answers = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given), device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FewShotError(f"step got {type(given).__name__}, but needs {_wanted(spec, batch)}") from error
    shape, n = tuple(answers.shape), spec.n_outputs
    if answers.dtype == torch.bool or answers.is_complex():
        raise FewShotError(f"step got answers of {answers.dtype}, but needs {_wanted(spec, batch)}")
    if spec.kind == "regression":
        if shape == batch and n == 1:
            return answers.unsqueeze(-1)
        if shape != (*batch, n):
            raise FewShotError(f"step got answers of shape {list(shape)}, but needs {_wanted(spec, batch)}")
        return answers
    if shape == batch:
        return _labels(answers, n)
    if shape[:-1] == batch and 0 < shape[-1] <= n:
        return answers
    raise FewShotError(f"step got answers of shape {list(shape)}, but needs {_wanted(spec, batch)}")


def _labels(answers: Tensor, n: int) -> Tensor:
    labels = answers.long()
    wrong = (labels != answers) | (labels < 0) | (labels >= n)
    if wrong.any():
        at = wrong.nonzero()[0].tolist()
        raise FewShotError(
            f"step got the label {answers[tuple(at)].item():g} at {at if len(at) > 1 else at[0]}, but labels are whole "
            f"numbers from 0 to {n - 1}"
        )
    return labels


def _wanted(spec: TaskSpec, batch: tuple[int, ...]) -> str:
    size, n = ", ".join(map(str, batch)), spec.n_outputs
    if spec.kind == "regression":
        return f"values of shape [{size}, {n}]"
    return f"labels of shape [{size}] from 0 to {n - 1}, or scores of shape [{size}, {n}]"
