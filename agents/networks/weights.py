"""Weights for a network from a file: safetensors, or a state dict of torch. No code in a file is ever run."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_env.errors import FewShotError, said

log = logging.getLogger("fsl")

_FOLLOW: ContextVar[bool] = ContextVar("weights follow", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Within, networks are built without their first weights: those of a checkpoint follow, and a file may be gone."""
    token = _FOLLOW.set(True)
    try:
        yield
    finally:
        _FOLLOW.reset(token)


def follow() -> bool:
    """Whether a checkpoint's weights follow."""
    return _FOLLOW.get()


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: .safetensors, or what torch.save wrote.

    A state dict inside a dict (under state_dict, model or params) is found, and the prefix "module." of
    nn.DataParallel dropped.

    Raises:
        FewShotError: where the file is missing, damaged, or holds something else.
    """
    if not file.is_file():
        raise FewShotError(f"there is no file of weights {file}; correct agent.network_weights")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FewShotError(
            f"{file} holds more than tensors, and code in a file is never run; save its state dict: "
            "torch.save(net.state_dict(), FILE)"
        ) from error
    except Exception as error:  # damaged files raise many kinds
        raise FewShotError(f"the file of weights {file} cannot be read ({said(error)}); save it again") from error
    for key in ("state_dict", "model", "params"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not (isinstance(found, Mapping) and found and all(isinstance(v, Tensor) for v in found.values())):
        raise FewShotError(
            f"{file} holds no state dict (tensors by name); save one: torch.save(net.state_dict(), FILE)"
        )
    whole = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if whole else name: value for name, value in found.items()}


@cache
def _say_once(words: str) -> None:
    """A run builds its agent several times."""
    log.warning(words)


def load_weights(network: nn.Module, name: str, file: Path, leave_out: bool) -> None:
    """Give a network the weights of a file.

    Args:
        network: the module.
        name: of the network, for the messages.
        file: see `read_weights`.
        leave_out: load what fits where not all does, and say so; else that is refused.

    Raises:
        FewShotError: where not all weights fit and `leave_out` is false, or none does.
    """
    given, own = read_weights(file), network.state_dict()
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    unknown = [n for n in given if n not in own]
    other = [n for n in given if n in own and given[n].shape != own[n].shape]
    fits = {n: v for n, v in given.items() if n in own and n not in other}
    groups = (("missing in it", missing), ("unknown to the network", unknown), ("of another shape", other))
    if any(names for _, names in groups):
        said_of = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
            for what, names in groups
            if names
        ]
        words = f"{len(fits)} weights of {file} fit the network {name}; {', '.join(said_of)}"
        if not fits or not leave_out:
            advice = (
                "name the right network" if not fits else "set agent.mismatched_weights=leave_out to load what fits"
            )
            raise FewShotError(f"{words}; {advice}")
        _say_once(
            f"fsl: {words}" + ("; the network's other weights keep their initial values" if missing or other else "")
        )
    network.load_state_dict(own | fits)
