"""What a task family samples, compared once with what its TaskSpec says: one line says what is off."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.sampler import TaskSampler
from fewshot_env.shapes import varies


class Verifier:
    """Compares the first episode that it is given with the sampler's spec; later ones pass unseen."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, sampler: TaskSampler, episode: Episode) -> Episode:
        """The episode; raises FewShotError where shapes, types, ranges or finiteness differ from the spec."""
        if not self._done:
            verify(sampler, episode)
            self._done = True
        return episode


def verify(sampler: TaskSampler, episode: Episode) -> None:
    """Raise FewShotError where an episode is not one that the sampler's spec describes."""
    spec, name = sampler.spec, type(sampler).__name__
    if spec.kind not in ("classification", "regression"):
        raise FewShotError(f"{name}.spec.kind is {spec.kind!r}, but must be 'classification' or 'regression'")
    sizes = {"support": sampler.support_size, "query": sampler.query_size}
    for part, items in (("support", episode.support), ("query", episode.query)):
        what = f"{name} samples a {part}"
        size = None if varies(sampler) else sizes[part]
        _verify_inputs(f"{what} x", spec, items.x, size)
        if items.y is None:
            raise FewShotError(f"{what} without answers, but the sampler must give them; the environment hides them")
        _verify_answers(f"{what} y", spec, items, hidden_range=part == "support")


def _verify_inputs(what: str, spec: TaskSpec, x: Tensor, size: int | None) -> None:
    wanted = ("B", "items" if size is None else size, *spec.in_shape)
    if x.dim() != len(wanted) or x.shape[2:] != spec.in_shape or size not in (None, x.shape[1]):
        raise FewShotError(f"{what} of shape {_words(x)}, but its spec says [{', '.join(map(str, wanted))}]")
    images = len(spec.in_shape) == 3
    if x.dtype != torch.get_default_dtype() and not (images and x.dtype == torch.uint8):
        raise FewShotError(f"{what} of {x.dtype}, but must be {_floats()}{' or, for images, uint8' * images}")
    values = x.float() / 255 if x.dtype == torch.uint8 else x
    _verify_range(what, values, spec.x_range, "x_range")


def _verify_answers(what: str, spec: TaskSpec, items: Split, hidden_range: bool) -> None:
    y, tasks = items.labels, items.x.shape[:2]
    if spec.kind == "classification":
        if y.shape != tasks or y.dtype != torch.int64:
            raise FewShotError(f"{what} of shape {_words(y)}, {y.dtype}, but labels are torch.int64 {list(tasks)}")
        if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < spec.n_outputs:
            raise FewShotError(
                f"{what} from {int(y.min())} to {int(y.max())}, but labels lie in [0, {spec.n_outputs}): spec.n_outputs"
            )
        return
    wanted = (*tasks, spec.n_outputs)
    if y.shape != wanted or y.dtype != torch.get_default_dtype():
        raise FewShotError(f"{what} of shape {_words(y)}, {y.dtype}, but values are {_floats()} {list(wanted)}")
    _verify_range(what, y, None if hidden_range else spec.y_range, "y_range")  # support answers may carry noise


def _verify_range(what: str, values: Tensor, bounds: tuple[float, float] | None, field: str) -> None:
    if not values.numel():
        return
    if not bool(values.isfinite().all()):
        raise FewShotError(f"{what} that is not finite; mend the sampler")
    low, high = float(values.min()), float(values.max())
    if bounds is not None:
        slack = 1e-5 * max(abs(bounds[0]), abs(bounds[1]), 1.0)
        if low < bounds[0] - slack or high > bounds[1] + slack:
            raise FewShotError(
                f"{what} from {low:.6g} to {high:.6g}, but spec.{field} is {tuple(bounds)}; widen it, or mend that"
            )


def _floats() -> str:
    return str(torch.get_default_dtype())  # torch.float32, unless somebody proves something in float64


def _words(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
