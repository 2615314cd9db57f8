"""A trained agent as a file: what it is, what its tasks are, and its weights; loaded without environment or data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import BaseModel

from agents import exported
from agents.base import Agent
from agents.networks import is_custom
from agents.networks.weights import weights_follow
from agents.registry import find, load_plugins, without_unused
from fewshot_env import durable
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.plugins import name_of
from fewshot_env.settings import fit, validate

FORMAT = {"format": "fewshot-checkpoint", "version": 1}


def write(file: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors and plain types) so that `file` is always whole: the old or the new one.

    Raises OSError where it cannot be written.
    """
    buffer = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save(FORMAT | content, buffer)
    durable.write(file, buffer.getvalue())


def read(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `write`, or agents.exported, wrote, without executing code.

    Raises FewShotError for a missing, damaged or foreign file.
    """
    if file.suffix == exported.SUFFIX:
        return _verified(exported.read(file, device), file)
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
    return _verified(content, file)


class _Trained(BaseModel):
    """The schema of what `describe` gives; files of older versions lack it."""

    agent: str
    settings: dict[str, Any]
    spec: dict[str, Any]
    spec_class: str | None = None


def _verified(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The content; raises FewShotError where it describes its agent in another form than `describe`."""
    try:
        if "trained" in content:
            described = fit(_Trained, content["trained"])
            if described.spec.keys() != TaskSpec.__dataclass_fields__.keys():
                raise ValueError("its tasks have other fields")
    except ValueError as error:
        raise FewShotError(f"{file} is damaged ({error}); use another run, or start anew") from error
    return content


def describe(agent: Agent) -> dict[str, Any]:
    """What rebuilds an agent, in plain types: its name, its settings, and the spec of its tasks."""
    kind = type(agent.spec)
    return {
        "agent": agent.name,
        "settings": agent.config.model_dump(mode="json"),
        "spec": {name: getattr(agent.spec, name) for name in TaskSpec.__dataclass_fields__},
        "spec_class": None if kind is TaskSpec else f"{kind.__module__}:{kind.__qualname__}",
    }


def save(agent: Agent, file: str | Path, about: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write a trained agent to a file that `agents.load` reads.

    Args:
        agent: any agent.
        file: the file to write: "proto.safetensors" holds the weights and plain words only; any other name, "proto.pt"
            say, the state of the optimizer, too.
        about: plain facts to keep beside the weights, for example what it was trained on.

    Raises:
        FewShotError: where a .safetensors file cannot hold the agent's state, which is more than named tensors.
        OSError: where the file cannot be written.
    """
    file = Path(file)
    if file.suffix == exported.SUFFIX:
        exported.write(agent, describe(agent), file, about)
    else:
        write(file, {"trained": describe(agent), "agent": agent.state(), "about": dict(about)})


def load(
    file: str | Path,
    device: str | torch.device = "cpu",
    cls: type[Agent] | None = None,
    spec: TaskSpec | None = None,
    **changes: Any,
) -> Agent:
    """A trained agent in eval mode, from its file alone: no environment, data set or runner is needed.

    Args:
        file: what `agents.save` or `fsl export` wrote, or a run's best.pt or last.pt.
        device: where the agent is to compute.
        cls: its class, where that is not one of fewshot's or of an installed plug-in. A file never imports code.
        spec: its tasks, where their TaskSpec is a class of your own.
        changes: settings that differ from the saved ones, for example eval_steps=20.

    Returns:
        The agent, with its weights.

    Raises:
        FewShotError: where the file is missing, damaged or of an older version, a class must be passed, or a setting is
            wrong.

    Example:
        >>> agent = agents.load("runs/NAME/best.pt")
        >>> labels = agent.act(obs)
    """
    if Path(file).is_dir():
        raise FewShotError(f"{file} is a folder; name a file in it, for example best.pt, or use runners.load")
    return rebuild(read(Path(file), device), Path(file), device, cls, spec, **changes)


def rebuild(
    content: Mapping[str, Any],
    file: Path,
    device: str | torch.device = "cpu",
    cls: type[Agent] | None = None,
    spec: TaskSpec | None = None,
    **changes: Any,
) -> Agent:
    """The agent of what `read` gave; `file` is named in the messages, everything else is as in `load`."""
    if "trained" not in content:
        raise FewShotError(
            f"{file} was saved by a version that did not describe its agent; load it from its run's folder: "
            f"runners.load({str(file.parent)!r})"
        )
    try:
        saved, state = content["trained"], content["agent"]
        name, network = str(saved["agent"]), str(saved["settings"].get("network", ""))
        settings, spec = {**without_unused(name, saved["settings"]), **changes}, spec or spec_from(saved)
    except FewShotError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FewShotError(f"the checkpoint {file} is damaged; use another run, or start anew") from error
    if cls is None:
        if ":" in name:
            raise FewShotError(
                f"{file} holds an agent of the class {name}, and a file never imports code; import the class and pass "
                "it: agents.load(file, cls=...)"
            )
        load_plugins()
        cls = find(name).load()
    if is_custom(network) and "network" not in changes:
        raise FewShotError(
            f"{file} has the network {network}, and a file never imports code; name it yourself: "
            "agents.load(file, network=...)"
        )
    config = validate(cls.Config, settings)
    with torch.random.fork_rng(devices=[]), weights_follow():
        agent = cls(spec, config).to(device)
    agent.name = name if ":" not in name else name_of(cls)
    try:
        agent.load_state(state)
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        changed = f"the changes ({', '.join(changes)})" if changes else f"the class {cls.__name__}"
        raise FewShotError(f"the weights of {file} do not fit {changed}") from error
    return agent.eval()


def spec_from(saved: Mapping[str, Any]) -> TaskSpec:
    """The TaskSpec that `describe` described; raises FewShotError where it is of a custom class."""
    if saved.get("spec_class") is not None:
        raise FewShotError(
            f"the tasks are described by the class {saved['spec_class']}, and a file never imports code; "
            "pass one: agents.load(file, spec=...)"
        )
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved["spec"].items()}
    return TaskSpec(**fields)
