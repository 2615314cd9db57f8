"""Settings as one flat mapping of dotted keys, from a file, from `--set`, from options; errors in one line.

"seed" belongs to the run, "env.n_way" to the environment, "agent.inner_lr" to the agent: the same keys on
the command line, in a YAML file, in a run's config.json and in TensorBoard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fewshot_env.errors import FewShotError, SettingError, suggest

Settings = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

MOST = 2**16
"""Bytes of a file of settings: all that there are take a tenth of it."""


def read_file(file: Path) -> Settings:
    """Read a YAML (or JSON) file of settings; raises FewShotError where it is not a flat mapping."""
    try:
        content = yaml.safe_load(_text_of(file))
    except Exception as error:  # PyYAML lets through whatever its constructors raise
        raise FewShotError(f"--config {file} can not be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise FewShotError(f"--config {file} must map keys to values, for example 'agent.inner_lr: 0.1'")
    return content


def _text_of(file: Path) -> str:
    """The text of a file, or of a pipe (the shell's <(...) is one); raises ValueError where there is too much of it."""
    if not (file.is_file() or file.is_fifo() or not file.exists()):
        raise ValueError("it is a folder or a device; give a file")
    with file.open("rb") as stream:
        content = stream.read(MOST + 1)
    if len(content) > MOST:
        raise ValueError(f"it is longer than {MOST} bytes")
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
    return {key.removeprefix(prefix + "."): v for key, v in settings.items() if key.startswith(prefix + ".")}


def fields_of(model: type[BaseModel], prefix: str = "", hidden: Iterable[str] = ()) -> list[str]:
    """The keys of a model's fields."""
    return [prefix + name for name in model.model_fields if name not in set(hidden)]


def validate(model: type[Model], values: Mapping[str, Any], prefix: str = "", hidden: Iterable[str] = ()) -> Model:
    """Build `model`; raises FewShotError, one line, that names the key. `hidden` fields may not be set."""
    known = fields_of(model, prefix, hidden)
    for key in values:
        if prefix + key not in known:
            near = suggest(key, fields_of(model, "", hidden), prefix)
            raise SettingError(
                prefix + key, f"unknown setting {prefix + key!r}{near}; known: {', '.join(known) or 'none'}"
            )
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        wrong = first["msg"].removeprefix("Value error, ")
        raise SettingError(key, f"setting {key} is {first['input']!r}, but: {wrong}") from error
