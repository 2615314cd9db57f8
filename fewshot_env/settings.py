"""Settings checked against a pydantic model; what is wrong is one line that names the key, with the nearest name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fewshot_env.errors import SettingError, nearest

Model = TypeVar("Model", bound=BaseModel)


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
    """
    known = fields_of(model, prefix, hidden)
    for key in values:
        if prefix + key not in known:
            full_keys = {full.rpartition(".")[2]: full for full in [*elsewhere, *known]}
            near = nearest(key, full_keys)
            hint = f" (did you mean {full_keys[near]!r}?)" if near else ""
            raise SettingError(
                prefix + key, f"unknown setting {prefix + key!r}{hint}; known: {', '.join(known) or 'none'}"
            )
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        wrong = first["msg"].removeprefix("Value error, ")
        raise SettingError(key, f"setting {key} is {first['input']!r}, but: {wrong}") from error
