"""A trained agent as a .safetensors file: weights, and a JSON header that says what they are. It cannot hold code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.base import Agent
from fewshot_env import durable
from fewshot_env.errors import FewShotError

SUFFIX = ".safetensors"
FORMAT = {"format": "fewshot-agent", "version": "1"}


def write(agent: Agent, description: Mapping[str, Any], file: Path, about: Mapping[str, Any]) -> None:
    """Write an agent's weights, its description (agents.saved.describe), and plain facts about its training.

    Raises:
        FewShotError: where the agent's state is more than named tensors.
        OSError: where the file cannot be written.
    """
    from safetensors.torch import save

    state = agent.state()
    if set(state) != {"weights", "optimizer"} or not all(isinstance(v, Tensor) for v in state["weights"].values()):
        raise FewShotError(
            f"the state of {type(agent).__name__} is more than named tensors, which {SUFFIX} cannot hold; save it to "
            "a .pt file"
        )
    header = {**FORMAT, "trained": json.dumps(description), "about": json.dumps(dict(about))}
    tensors = {name: v.detach().cpu().clone().contiguous() for name, v in state["weights"].items()}
    durable.write(file, save(tensors, header))


def read(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `write` wrote, in the form of a checkpoint: "trained", "agent" and "about".

    Raises:
        FewShotError: where the file is missing, damaged, or another one's.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, "pt", device=str(device)) as content:
            header = content.metadata() or {}
            if {k: header.get(k) for k in FORMAT} != FORMAT:
                raise FewShotError(
                    f"{file} holds weights, but not of an agent that fsl export wrote; for the weights of a network "
                    f"use --set agent.network_weights={file}"
                )
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            described = {part: json.loads(header[part]) for part in ("trained", "about")}
    except FileNotFoundError as error:
        raise FewShotError(f"there is no file {file}; name one that fsl export wrote") from error
    except FewShotError:
        raise
    except Exception as error:  # a damaged file
        raise FewShotError(f"{file} is damaged ({error}); export it again") from error
    _verify(described, file)
    return {**described, "agent": {"weights": weights, "optimizer": None}}


def _verify(described: Mapping[str, Any], file: Path) -> None:
    """Raise FewShotError where a header is not as `write` writes it."""
    about = described["about"]
    if not (isinstance(about, dict) and isinstance(about.get("settings", {}), dict)):
        raise FewShotError(
            f"{file} is damaged (its header says nothing about the run in the usual form); export it again"
        )
