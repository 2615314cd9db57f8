"""Settings as one flat mapping of dotted keys, from a file, from `--set`, from options; errors in one line.

"seed" belongs to the run, "env.n_way" to the environment, "agent.inner_lr" to the agent: the same keys on
the command line, in a YAML file, in a run's config.json and in TensorBoard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from agents.registry import without_unused
from fewshot_env.errors import FewShotError

Settings = dict[str, Any]

MAX_BYTES = 2**16
"""Bytes of a file of settings: all that there are take a tenth of it."""


def read_file(file: Path) -> Settings:
    """Read a YAML (or JSON) file of settings; raises FewShotError where it is not a flat mapping."""
    try:
        content = yaml.safe_load(_text_of(file))
    except Exception as error:  # PyYAML lets through whatever its constructors raise
        raise FewShotError(f"--config {file} cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise FewShotError(f"--config {file} must map keys to values, for example 'agent.inner_lr: 0.1'")
    for key in ("env", "agent", "run"):
        if isinstance(content.get(key), dict):
            raise FewShotError(
                f"--config {file}: settings are flat, and those below {key!r} are not read; write "
                f"{', '.join(f'{key}.{name}: ...' for name in list(content[key])[:3]) or f'{key}.NAME: ...'}"
            )
    return content


def _text_of(file: Path) -> str:
    """The text of a file, or of a pipe (the shell's <(...) is one); raises ValueError where there is too much of it."""
    if not (file.is_file() or file.is_fifo() or not file.exists()):
        raise ValueError("it is a folder or a device; give a file")
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    return content.decode()


def read_pairs(pairs: Iterable[str], option: str = "--set", example: str = "agent.inner_lr=0.1") -> Settings:
    """Read the KEY=VALUE texts of an option; values are YAML."""
    found: Settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise FewShotError(f"{option} {pair!r} must be KEY=VALUE, for example {example}")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except Exception as error:
            raise FewShotError(f"{option} {pair!r}: the value is not valid YAML; quote it") from error
    return found


def section(settings: Settings, prefix: str) -> Settings:
    """The settings "prefix.key" as {"key": value}."""
    start = prefix + "."
    return {key.removeprefix(start): value for key, value in settings.items() if str(key).startswith(start)}


def upgraded(settings: Mapping[str, Any]) -> Settings:
    """Settings that an older version saved, under this version's names.

    `agent.clip`, which acted where there were several inner steps, is now `agent.inner_clip` and `agent.task_clip`.
    `agent.recompute`, which changed no result, is gone, as are settings of an agent that it never used.
    """
    new = dict(settings)
    if {"agent.clip", "agent.inner_steps", "agent.first_order"} <= new.keys():
        clip = new.pop("agent.clip")
        clip = clip if new["agent.inner_steps"] != 1 else None
        new |= {"agent.inner_clip": clip, "agent.task_clip": clip}
    if "agent.inner_clip" in new:
        new.pop("agent.recompute", None)
    return without_unused(str(new.get("agent")), new, "agent.")
