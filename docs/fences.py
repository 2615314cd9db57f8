"""Two kinds of fenced blocks of the documentation site: equations as MathML, and tables of settings from the code.

On a page that is read as plain Markdown both still make sense: LaTeX, and the command that prints the settings.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from latex2mathml.converter import convert
from pydantic import BaseModel

from agents.registry import AgentSpec, find
from fewshot_env.registry import ENVS
from fewshot_env.sampler import sampler_class
from runners.describe import KINDS
from runners.plan import RESERVED, RunConfig, paper_protocol


def math(source: str, *_: Any, **__: Any) -> str:
    """LaTeX, one equation per line, as MathML, which browsers draw without a script."""
    lines = "".join(convert(line, display="block") for line in source.splitlines() if line.strip())
    return f'<div class="math">{lines}</div>'


def settings(source: str, *_: Any, **__: Any) -> str:
    """`fsl show NAME` as a table: every setting, its default (and the paper's, where that depends on the tasks)."""
    name = source.removeprefix("fsl show").strip()
    if name == "run":
        return _table(RunConfig, "", [(label, paper_protocol(spec, shots)) for label, spec, shots in KINDS])
    if name in ENVS:
        return _table(sampler_class(ENVS[name].sampler).Config, "env.", [], hidden=RESERVED)
    spec = find(name)
    return _table(spec.load().Config, "agent.", _paper(spec), spec.settings)


def _paper(agent: AgentSpec) -> list[tuple[str, dict[str, Any]]]:
    chosen = [(label, agent.load().Config.paper(spec, shots)) for label, spec, shots in KINDS]
    return [(label, {k: v for k, v in own.items() if k not in agent.settings}) for label, own in chosen]


def _table(
    model: type[BaseModel], prefix: str, paper: list[tuple[str, dict[str, Any]]], own: Any = (), hidden: Any = ()
) -> str:
    rows = ""
    for name, field in model.model_fields.items():
        if name in hidden:
            continue
        default = "required" if field.is_required() else json.dumps(dict(own).get(name, field.get_default()))
        others = [f"{label}: <code>{json.dumps(values[name])}</code>" for label, values in paper if name in values]
        cell = "<br>".join([f"<code>{escape(default)}</code>", *others])
        rows += (
            f"<tr><td><code>{prefix}{name}</code></td><td>{cell}</td><td>{escape(field.description or '')}</td></tr>"
        )
    head = "<tr><th>setting</th><th>default</th><th>meaning</th></tr>"
    return f'<div class="settings"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
