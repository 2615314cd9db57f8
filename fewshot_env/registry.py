"""The environments by name: one table for `fsl`, and the same entries as Gymnasium ids."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import gymnasium

from fewshot_env.errors import FewShotError, said, suggest
from fewshot_env.store import data_dir, prepared_names


@dataclass(frozen=True)
class EnvEntry:
    """A task family: its short name, Gymnasium id, sampler ("module:Class") and one line about it.

    address: what finds it in another process, too: its name, but "module:id" where that module must be imported first.
    """

    name: str
    id: str
    sampler: str
    summary: str
    address: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", self.address or self.name)


ENVS: dict[str, EnvEntry] = {}
_seen_plugins: set[str] = set()


def register(entry: EnvEntry) -> None:
    """Add a task family, with both faces, to Gymnasium and to `fsl`; raises FewShotError on a taken name."""
    if entry.name in ENVS or entry.id in gymnasium.registry:
        raise FewShotError(f"the environment {entry.name!r} ({entry.id}) is already registered; choose another name")
    _register_id(entry)
    ENVS[entry.name] = entry


def _register_id(entry: EnvEntry) -> None:
    gymnasium.register(
        entry.id,
        entry_point="fewshot_env.env:FewShotEnv",
        vector_entry_point="fewshot_env.vector:FewShotVectorEnv",
        kwargs={"sampler": entry.sampler},
    )


def register_prepared(folder: str | Path | None = None) -> None:
    """Register the prepared stores of `folder` (default: `store.data_dir()`) that have no entry yet, by their names.

    `my-birds` becomes the environment `my-birds`, Gymnasium id `FewShot/my-birds-v0`.
    """
    for name in prepared_names(data_dir(folder)):
        if name in ENVS:
            continue
        entry = own_entry(name)
        if entry.id in gymnasium.registry:
            warnings.warn(f"the store {name!r} was skipped: {entry.id} is another environment's", stacklevel=1)
        else:
            register(entry)


def own_entry(name: str) -> EnvEntry:
    """The entry of a prepared store of one's own."""
    return EnvEntry(name, f"FewShot/{name}-v0", f"fewshot_env.own:{name}", "your own images, 84x84 RGB")


def find(name: str, folder: str | Path | None = None) -> EnvEntry:
    """The entry called `name`: a short name, a Gymnasium id, or "module:id" with the module that registers it.

    Names joined by "+" are a mixture: each task is of one of them (`fewshot_env.mixture`).

    Prepared stores of `folder` (default: `store.data_dir()`) are known by their names.
    Raises FewShotError with the nearest name for an unknown one.
    """
    if "+" in name:
        return _mixture([find(part.strip(), folder) for part in name.split("+")])
    module, colon, rest = name.partition(":")
    if colon:
        if "" not in sys.path:  # an installed command does not look into the current folder by itself
            sys.path.insert(0, "")
        try:
            import_module(module)
        except (Exception, SystemExit) as error:  # it is the user's, and may do anything
            raise FewShotError(f"the module of the environment {name!r} can not be imported: {said(error)}") from error
        name = rest
    register_prepared(folder)
    for entry in ENVS.values():
        if name in (entry.name, entry.id):
            return replace(entry, address=f"{module}:{entry.id}") if colon else entry
    raise FewShotError(f"unknown environment {name!r}{suggest(name, ENVS)}; known: {', '.join(ENVS)}")


def _mixture(parts: list[EnvEntry]) -> EnvEntry:
    """The entry of a mixture, known to Gymnasium; it is no environment of its own in `ENVS`."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise FewShotError(f"the mixture {'+'.join(names)} names an environment twice; name each once")
    name, id_ = "+".join(names), f"FewShot/{'.'.join(names)}-v0"  # no name of an environment may have a dot
    summary, address = f"each task from one of {', '.join(names)}", "+".join(part.address for part in parts)
    entry = EnvEntry(name, id_, f"fewshot_env.mixture:{name}", summary, address)
    if id_ not in gymnasium.registry:
        _register_id(entry)
    return entry


def load_plugins() -> None:
    """Register the entry points `fsl.envs`, each once (a broken one warns and is skipped), and the prepared stores."""
    for point in entry_points(group="fsl.envs"):
        if point.value in _seen_plugins:
            continue
        _seen_plugins.add(point.value)
        try:
            entry = point.load()
            if not isinstance(entry, EnvEntry):
                raise FewShotError(f"{point.value} is not a fewshot_env.EnvEntry, but {type(entry).__name__}")
            register(entry)
        except (Exception, SystemExit) as error:  # whatever a plug-in does wrong must not break fsl
            warnings.warn(f"the environment plug-in {point.name!r} was skipped: {said(error)}", stacklevel=2)
    register_prepared()


register(EnvEntry("sine", "FewShot/Sine-v0", "fewshot_env.sine:SineSampler", "sine regression: y = A sin(x + phase)"))
register(
    EnvEntry(
        "mini",
        "FewShot/MiniImageNet-v0",
        "fewshot_env.images:MiniImageNet",
        "miniImageNet, 84x84 RGB, 64/16/20 classes",
    )
)
register(
    EnvEntry("cub", "FewShot/CUB-v0", "fewshot_env.images:CUB", "CUB-200-2011 birds, 84x84 RGB, 100/50/50 classes")
)
register(
    EnvEntry(
        "omniglot",
        "FewShot/Omniglot-v0",
        "fewshot_env.images:Omniglot",
        "Omniglot characters, 84x84 RGB, 883/81/659 classes",
    )
)
register(
    EnvEntry(
        "glyphs",
        "FewShot/Glyphs-v0",
        "fewshot_env.worlds.sampler:Glyphs",
        "drawn characters, 28x28 RGB, 200/50/50 classes",
    )
)
register(
    EnvEntry(
        "textures",
        "FewShot/Textures-v0",
        "fewshot_env.worlds.sampler:Textures",
        "drawn textures, 28x28 RGB, 200/50/50 classes",
    )
)
