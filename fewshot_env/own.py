"""Environments of prepared stores: `fewshot_env.own:NAME` is the sampler of the store NAME."""

from __future__ import annotations

from functools import cache

from fewshot_env.images import StoredImages


@cache
def __getattr__(name: str) -> type[StoredImages]:
    """The sampler class of the prepared data set `name`, so that "module:Class" reaches every store."""
    if name.startswith("_"):
        raise AttributeError(name)
    return type(name, (StoredImages,), {"dataset": name, "__doc__": f"Image tasks of the prepared data set {name}."})
