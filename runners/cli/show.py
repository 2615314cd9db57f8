"""The command `fsl show`: every setting of an agent, an environment or a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewshot_env.errors import FewShotError, suggest
from runners.cli import completion as complete
from runners.cli.options import Json
from runners.console.output import output, wrapped

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agents.registry import AgentSpec

NOTHING: Mapping[str, Any] = MappingProxyType({})


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="An agent or an environment (see fsl list), my_module:MyAgent, or run.",
            autocompletion=complete.names,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show every setting of an agent, an environment or a run: its default and its meaning."""
    with output(as_json) as emit:
        description = describe(name)
        emit(description, in_words(description))


def describe(name: str) -> dict[str, Any]:
    """The settings of an agent, an environment (of a pair: its source) or, for "run", of a run.

    Returns:
        "name", "summary", "settings" (each with "key", "default" or "required", and "means"), and "paper": the paper's
        choices, by kind of task, that differ from the defaults.

    Raises:
        FewShotError: where there is no such name.
    """
    from agents.registry import AGENTS
    from agents.registry import find as find_agent
    from fewshot_env.pair import EnvPair
    from fewshot_env.plugins import load
    from fewshot_env.registry import ENVS
    from fewshot_env.registry import find as find_env
    from fewshot_env.sampler import sampler_class
    from runners.config.plan import RESERVED, RunConfig, load_plugins, paper_protocol

    load_plugins()
    if "->" in name or "→" in name or (":" in name and name.partition(":")[0] in ENVS):
        return describe(EnvPair.parse(name).source.name)
    if name == "run":
        paper = {label: paper_protocol(spec, n_shot) for label, spec, n_shot in _kinds_of_tasks()}
        summary = "the settings of a run; those that depend on the tasks are at the end"
        return {"name": name, "summary": summary} | _settings(RunConfig, "", paper)
    is_env = name in ENVS or "/" in name or ("+" in name and name not in AGENTS)
    if is_env or (":" in name and hasattr(load(name, f"agent or environment {name!r}"), "sample")):
        entry = find_env(name)
        settings = _settings(sampler_class(entry.sampler).Config, "env.", hidden=RESERVED)
        return {"name": entry.name, "id": entry.id, "summary": entry.summary} | settings
    if ":" not in name and name not in AGENTS:
        raise FewShotError(f"{name!r} is no agent and no environment{suggest(name, [*AGENTS, *ENVS])}; see fsl list")
    spec = find_agent(name)
    return {"name": spec.name, "summary": spec.summary} | _agent_settings(spec)


def _kinds_of_tasks() -> list[tuple[str, Any, int]]:
    """The kinds of tasks for which the paper chooses settings: label, TaskSpec, shots."""
    from fewshot_env.episode import TaskSpec

    sine = TaskSpec("regression", (1,), 1, 1, (-5, 5), (-10, 10))
    images = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
    return [("sine", sine, 5), ("images, 1-shot", images, 1), ("images, 5-shot", images, 5)]


def _agent_settings(spec: AgentSpec) -> dict[str, Any]:
    config = spec.load().Config
    paper = {label: config.paper(tasks, n_shot) for label, tasks, n_shot in _kinds_of_tasks()}
    open_ = {label: {k: v for k, v in values.items() if k not in spec.settings} for label, values in paper.items()}
    return _settings(config, "agent.", open_, spec.settings)


def _settings(
    model: type[BaseModel],
    prefix: str,
    paper: Mapping[str, Any] = NOTHING,
    defaults: Mapping[str, Any] = NOTHING,
    hidden: Sequence[str] = (),
) -> dict[str, Any]:
    """The fields of a model; `defaults` are those that a registered name sets itself."""
    settings: list[dict[str, Any]] = []
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default: dict[str, Any] = {"default": defaults.get(name, field.default)}
        if field.is_required():
            default = {"required": True}
        elif name not in defaults and (field.default_factory is not None or "default_in_words" in extra):
            words = extra.get("default_in_words", "depends on other settings")
            default = {"default": None, "default_in_words": words}
        if name not in hidden:
            settings.append({"key": prefix + name} | default | {"means": field.description or ""})
    return {"settings": settings, "paper": dict(paper)}


def default_in_words(setting: Mapping[str, Any]) -> str:
    """A setting's default, as JSON or in words."""
    if setting.get("required"):
        return "required"
    return str(setting.get("default_in_words") or json.dumps(setting["default"]))


def in_words(description: Mapping[str, Any]) -> str:
    """A description as text within the terminal's width."""
    lines = [wrapped(f"{description['name']}: {description['summary']}"), ""]
    for setting in description["settings"]:
        lines += [f"  {setting['key']} = {default_in_words(setting)}", wrapped(setting["means"], "      ")]
    if description["paper"]:
        lines += ["", "settings that depend on the tasks (published, or as the agent's page says)"]
    for label, values in description["paper"].items():
        text = ", ".join(f"{k} = {json.dumps(v)}" for k, v in values.items()) or "as above"
        lines += [wrapped(f"{label:<15} {text}", "  ")]
    return "\n".join(lines)
