"""Every setting of an agent, an environment or a run: key, default, sentence, and what the paper chooses by task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from agents.registry import AGENTS, AgentSpec
from agents.registry import find as find_agent
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, suggest
from fewshot_env.pair import EnvPair
from fewshot_env.registry import ENVS
from fewshot_env.registry import find as find_env
from fewshot_env.sampler import sampler_class
from runners.config.plan import RESERVED, RunConfig, load_plugins, paper_protocol
from runners.console.output import wrapped

SINE = TaskSpec("regression", (1,), 1, 1, (-5, 5), (-10, 10))
IMAGES = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
KINDS = (("sine", SINE, 5), ("images, 1-shot", IMAGES, 1), ("images, 5-shot", IMAGES, 5))


def of(name: str) -> dict[str, Any]:
    """What `fsl show NAME` tells: name, summary, settings (of a pair its source's), and the paper's choices by tasks.

    Raises FewShotError for an unknown name.
    """
    load_plugins()
    if "->" in name or "→" in name or (":" in name and name.partition(":")[0] in ENVS):
        return of(EnvPair.parse(name).source.name)
    if name == "run":
        chosen = {label: paper_protocol(spec, n_shot) for label, spec, n_shot in KINDS}
        return {"name": name, "summary": "what depends on the tasks stands below"} | _told(RunConfig, "", chosen)
    if name in ENVS or "/" in name or ("+" in name and name not in AGENTS):
        entry = find_env(name)
        found = _told(sampler_class(entry.sampler).Config, "env.", hidden=RESERVED)
        return {"name": entry.name, "id": entry.id, "summary": entry.summary} | found
    if ":" not in name and name not in AGENTS:
        raise FewShotError(f"{name!r} is no agent and no environment{suggest(name, [*AGENTS, *ENVS])}; see fsl list")
    spec = find_agent(name)
    return {"name": spec.name, "summary": spec.summary} | _of_agent(spec)


def _of_agent(spec: AgentSpec) -> dict[str, Any]:
    config = spec.load().Config
    chosen = {label: config.paper(tasks, n_shot) for label, tasks, n_shot in KINDS}
    own = {label: {k: v for k, v in values.items() if k not in spec.settings} for label, values in chosen.items()}
    return _told(config, "agent.", own, spec.settings)


def _told(
    model: type[BaseModel],
    prefix: str,
    paper: Mapping[str, Any] = MappingProxyType({}),
    own: Mapping[str, Any] = MappingProxyType({}),
    hidden: Sequence[str] = (),
) -> dict[str, Any]:
    settings: list[dict[str, Any]] = [
        {"key": prefix + name, "required": True} if field.is_required() else
        {"key": prefix + name, "default": own.get(name, field.get_default())}
        for name, field in model.model_fields.items()
    ]  # fmt: skip
    sentences = [{"means": field.description or ""} for field in model.model_fields.values()]
    shown = [s | m for s, m in zip(settings, sentences, strict=True) if s["key"].removeprefix(prefix) not in hidden]
    return {"settings": shown, "paper": dict(paper)}


def in_words(found: Mapping[str, Any]) -> str:
    """The same to read, within a terminal's width."""
    lines = [wrapped(f"{found['name']}: {found['summary']}"), ""]
    for setting in found["settings"]:
        default = "required" if setting.get("required") else json.dumps(setting["default"])
        lines += [f"  {setting['key']} = {default}", wrapped(setting["means"], "      ")]
    if found["paper"]:
        lines += ["", "the paper's settings that depend on the tasks"]
    for label, values in found["paper"].items():
        text = ", ".join(f"{k} = {json.dumps(v)}" for k, v in values.items()) or "as above"
        lines += [wrapped(f"{label:<15} {text}", "  ")]
    return "\n".join(lines)
