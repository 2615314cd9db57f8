"""Two kinds of fenced blocks of the documentation site: equations as MathML, and tables of settings from the code.

In plain Markdown both still make sense: LaTeX, and the command that prints the settings.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from latex2mathml.converter import convert

from runners.cli.show import default_in_words, describe


def math(source: str, *_: Any, **__: Any) -> str:
    """LaTeX, one equation per line, as MathML, which browsers draw without a script."""
    lines = "".join(convert(line, display="block") for line in source.splitlines() if line.strip())
    return f'<div class="math">{lines}</div>'


def settings(source: str, *_: Any, **__: Any) -> str:
    """`fsl show NAME` as a table: every setting, its default (and the paper's, where that depends on the tasks)."""
    description = describe(source.removeprefix("fsl show").strip())
    rows = "".join(_row(setting, description["paper"]) for setting in description["settings"])
    head = "<tr><th>setting</th><th>default</th><th>meaning</th></tr>"
    return f'<div class="settings"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _row(setting: dict[str, Any], paper: dict[str, dict[str, Any]]) -> str:
    name = setting["key"].rpartition(".")[2]
    default = default_in_words(setting)
    others = [f"{label}: <code>{json.dumps(values[name])}</code>" for label, values in paper.items() if name in values]
    cell = "<br>".join([f"<code>{escape(default)}</code>", *others])
    return f"<tr><td><code>{setting['key']}</code></td><td>{cell}</td><td>{escape(setting['means'])}</td></tr>"
