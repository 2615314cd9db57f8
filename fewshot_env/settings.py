"""Settings checked against a pydantic model; what is wrong is one line that names the key, in plain words."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from fewshot_env.errors import FewShotError, SettingError, nearest, said, suggest

Model = TypeVar("Model", bound=BaseModel)
Schema = Mapping[str, Any]
"""A JSON schema."""

MISSING = "it is missing"
SHOWN = 100
"""Characters of a wrong value that a message shows."""


class SettingsModel(BaseModel):
    """Settings: fields with defaults, checked when they are given, and never changed.

    Raises:
        SettingError: one line that names the key that is unknown or whose value is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _setting_error(type(self), error) from error


def fields_of(model: type[BaseModel], prefix: str = "", hidden: Iterable[str] = ()) -> list[str]:
    """The keys of a model's fields."""
    return [prefix + name for name in model.model_fields if name not in set(hidden)]


def validate(
    model: type[Model],
    values: Mapping[str, Any],
    prefix: str = "",
    hidden: Iterable[str] = (),
    elsewhere: Iterable[str] = (),
) -> Model:
    """Build a model from settings.

    Args:
        model: the settings' model.
        values: settings by name, without the prefix.
        prefix: "env." or "agent.", for messages.
        hidden: fields that may not be set.
        elsewhere: keys of other models, with their prefixes, that a wrong key may have been meant for.

    Raises:
        SettingError: one line that names the key that is unknown or whose value is wrong.
        FewShotError: where the model's own validators fail.
    """
    known = fields_of(model, prefix, hidden)
    for key in values:
        if f"{prefix}{key}" not in known:
            raise _unknown(f"{prefix}{key}", known, elsewhere)
    try:
        return model(**values)
    except (ValidationError, FewShotError) as error:
        cause = error.__cause__ if isinstance(error, FewShotError) else error
        if isinstance(cause, ValidationError):
            raise _setting_error(model, cause, prefix) from cause
        raise
    except Exception as error:  # of a custom validator
        raise FewShotError(f"the settings of {model.__qualname__} cannot be checked: {said(error)}") from error


def fit(model: type[Model], content: Any) -> Model:
    """Validate the content of a file; raises ValueError, in a few words, where it does not match."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        where, wrong, _ = first_fault(error, model)
        raise ValueError(f"{where}: {wrong}" if where else wrong) from error


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'agent.inner_lr'?)" for the known key whose last part is nearest to that of `key`."""
    by_name = {full.rpartition(".")[2]: full for full in known}
    near = nearest(key.rpartition(".")[2], by_name)
    return f" (did you mean {by_name[near]!r}?)" if near else ""


def first_fault(error: ValidationError, model: type[BaseModel] | None = None) -> tuple[str, str, Any]:
    """The first fault that pydantic found, in our words.

    Args:
        error: what pydantic raised.
        model: the model that was to be built, whose constraints can then be named, too.

    Returns:
        The key, dotted; what is wrong, for example "it must be a whole number of at least 1"; and the wrong value.
    """
    first = error.errors(include_url=False)[0]
    kind, value = first["type"], first["input"]
    keys, schema = _walk(model, first)
    if kind in ("value_error", "assertion_error"):
        wrong = str(first["ctx"]["error"])
    elif kind not in get_args(ErrorType) and not first["msg"].startswith("Input "):  # a custom validator's own error
        wrong = first["msg"]
    elif kind == "missing" and len(keys) == len(first["loc"]):
        wrong = MISSING
    elif kind == "extra_forbidden":
        keys, wrong = [*map(str, first["loc"])], "there is no such key"
    elif kind == "finite_number":
        wrong = "it must be a finite number"
    else:
        allowed = _allowed(schema) or _allowed(_schema_of(first))
        choices = [choice for choice in schema.get("enum", ()) if isinstance(choice, str)]
        wrong = f"it must be {allowed}" if allowed else "its type or its value is wrong"
        wrong += suggest(value, choices) if isinstance(value, str) else ""
    return ".".join(keys), wrong, value


def _setting_error(model: type[BaseModel], error: ValidationError, prefix: str = "") -> SettingError:
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return _unknown(f"{prefix}{first['loc'][0]}", fields_of(model, prefix))
    where, wrong, value = first_fault(error, model)
    key = prefix + where
    if not where:  # of several settings together
        return SettingError(key, f"these settings of {model.__qualname__} do not go together: {wrong}")
    if wrong == MISSING:
        return SettingError(key, f"setting {key} is missing")
    return SettingError(key, f"setting {key} is {_shown(value)}, but: {wrong}")


def _unknown(key: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> SettingError:
    hint = did_you_mean(key, [*elsewhere, *known])
    return SettingError(key, f"unknown setting {key!r}{hint}; known: {', '.join(known) or 'none'}")


def _shown(value: Any) -> str:
    """A value as Python writes it, cut where that is long."""
    try:
        text = repr(value)
    except Exception:  # a custom object's repr, or a number of too many digits
        text = f"of type {type(value).__name__}"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _walk(model: type[BaseModel] | None, error: ErrorDetails) -> tuple[list[str], Schema]:
    """The keys among the parts of an error's place (others name types), and the JSON schema of what is there."""
    names = [str(part) for part in error["loc"]]
    if model is None:
        return names, {}
    schema = _json_schema(model)
    if not schema:
        return names[:1], {}
    definitions = schema.get("$defs", {})
    for number, part in enumerate(error["loc"]):
        if part in schema.get("properties", {}):
            schema = schema["properties"][part]
        elif isinstance(part, int) and "items" in schema:
            schema = schema["items"]
        elif isinstance(part, int) and "prefixItems" in schema and error["type"] != "missing":
            schema = schema["prefixItems"][part]
        elif isinstance(schema.get("additionalProperties"), dict):
            schema = schema["additionalProperties"]
        else:  # the name of one of several types, or a place without a value: the whole is described
            return names[:number], schema
        schema = definitions.get(str(schema.get("$ref")).rpartition("/")[2], schema)
    return names, schema


@cache
def _json_schema(model: type[BaseModel]) -> Schema:
    """A model's JSON schema; empty where one of its types has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about defaults that JSON does not have
        try:
            return model.model_json_schema()
        except Exception:  # custom types may do anything
            return {}


def _schema_of(error: ErrorDetails) -> Schema:
    """As much of the JSON schema as an error says by itself: the type, and the bound that it names."""
    bounds = {_BOUNDS[key]: value for key, value in error.get("ctx", {}).items() if key in _BOUNDS}
    if bounds:
        return bounds | {"type": "integer" if all(isinstance(v, int) for v in bounds.values()) else "number"}
    return {"type": _TYPES.get(error["type"].partition("_")[0])}


_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_TYPES = {
    "int": "integer", "float": "number", "bool": "boolean", "string": "string", "list": "array", "tuple": "array",
    "dict": "object", "model": "object", "dataclass": "object",
}  # fmt: skip
"""JSON's type for the first word of the name of one of pydantic's errors."""


def _allowed(schema: Schema) -> str:
    """What a JSON schema allows: "a whole number from 1 to 9, or null"; "" where that cannot be said."""
    if "anyOf" in schema:
        parts = [_allowed(part) for part in schema["anyOf"]]
        return ", or ".join(dict.fromkeys(parts)) if all(parts) else ""
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(repr, choices))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        multiple = f", a multiple of {schema['multipleOf']}" if "multipleOf" in schema else ""
        return ("a whole number" if kind == "integer" else "a number") + _range(schema) + multiple
    if kind == "string":
        pattern = f" that matches {schema['pattern']!r}" if "pattern" in schema else ""
        return "text" + _count(schema.get("minLength"), schema.get("maxLength"), "characters") + pattern
    if kind == "array":
        kinds = {_allowed(each) for each in [*schema.get("prefixItems", ()), schema.get("items") or {}]} - {""}
        each = f", each {kinds.pop()}" if len(kinds) == 1 else ""
        return "a list" + (_count(schema.get("minItems"), schema.get("maxItems"), "values") or " of values") + each
    return {"boolean": "true or false", "null": "null", "object": "a mapping"}.get(str(kind), "")


def _range(schema: Schema) -> str:
    """The bounds of a number: " from 1 to 9", " above 0", " of at least 1 and below 4"."""
    if "minimum" in schema and "maximum" in schema:
        return f" from {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{word} {_number(schema[key])}" for key, word in words.items() if key in schema]
    return f" {' and '.join(bounds)}" if bounds else ""


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count(least: int | None, most: int | None, what: str) -> str:
    """A length: " of 2 values", " of 1 or more values", " of 1 to 3 values"; "" where it is not bounded."""
    if least is None and most is None:
        return ""
    if most is None:
        return f" of {least} or more {what}"
    return f" of {most} {what}" if least == most else f" of {least or 0} to {most} {what}"
