"""The environments by name: one table for `fsl`, and the same entries as Gymnasium ids."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import gymnasium

from fewshot_env import plugins
from fewshot_env.errors import FewShotError, said, suggest
from fewshot_env.store import SIZES, USUAL_SIZE, data_dir, prepare_command, prepared_names

if TYPE_CHECKING:
    from fewshot_env.sampler import SamplerSource, TaskSampler


@dataclass(frozen=True)
class EnvEntry:
    """A task family.

    Args:
        name: its short name.
        id: its Gymnasium id, for example "FewShot/Own-v0".
        sampler: its sampler class: "module:Class", or a functools.partial that gives the class.
        summary: one line about it.
        address: what finds it in another process, too: its name, or "module:id" where a module must be imported first.
    """

    name: str
    id: str
    sampler: SamplerSource
    summary: str
    address: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", self.address or self.name)


ENVS: dict[str, EnvEntry] = {}


def register(entry: EnvEntry) -> None:
    """Add a task family, with both interfaces, to Gymnasium and to `fsl`; raises FewShotError on a taken name."""
    if ENVS.get(entry.name) == entry:  # a cell of a notebook that runs again
        return
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
    """Register the prepared data sets of `folder` (default: `store.data_dir()`) that have no entry yet, by their names.

    `my-birds` becomes the environment `my-birds`, Gymnasium id `FewShot/my-birds-v0`.
    """
    for name in prepared_names(data_dir(folder)):
        if name in ENVS:
            continue
        entry = own_entry(name)
        if entry.id in gymnasium.registry:
            warnings.warn(f"the data set {name!r} was skipped: {entry.id} is another environment's", stacklevel=1)
        else:
            register(entry)


def own_entry(name: str) -> EnvEntry:
    """The entry of a prepared data set that is not one of the built-in ones, or is one at another size."""
    base, size = _base_and_size(name)
    summary = ENVS[base].summary.replace("84x84", f"{size}x{size}") if size else "your own images, RGB"
    return EnvEntry(name, f"FewShot/{name}-v0", partial(_stored_images, name), summary)


def _base_and_size(name: str) -> tuple[str, int]:
    """("cub", 224) of "cub-224", a known data set at another size; (name, 0) of any other name."""
    from fewshot_env.datasets import BUILT_IN

    base, _, size = name.rpartition("-")
    known = base in BUILT_IN and size.isdecimal() and int(size) in SIZES and int(size) != USUAL_SIZE
    return (base, int(size)) if known else (name, 0)


@cache
def _stored_images(name: str) -> type[TaskSampler]:
    """The sampler class of the prepared data set `name`."""
    from fewshot_env.images import StoredImages

    return type(name, (StoredImages,), {"dataset": name, "__doc__": f"Image tasks of the prepared data set {name}."})


def find(name: str, folder: str | Path | None = None) -> EnvEntry:
    """The environment called `name`.

    Args:
        name: a short name, a Gymnasium id, or the name of a prepared data set; "module:id" with the module that
            registers it; "module:Class" with a sampler class; names joined by "+" are a mixture (fewshot_env.mixture).
        folder: the folder of the prepared data sets (default: `store.data_dir()`).

    Raises:
        FewShotError: with the nearest name for an unknown one.
    """
    if "+" in name:
        return _mixture([find(part.strip(), folder) for part in name.split("+")])
    module, colon, rest = name.partition(":")
    if colon:
        return _of_module(module, rest)
    register_prepared(folder)
    for entry in ENVS.values():
        if name in (entry.name, entry.id):
            return entry
    base, size = _base_and_size(name)
    if size:
        raise FewShotError(
            f"{base} is not prepared at {size}x{size} in {data_dir(folder)}; run: "
            f"{prepare_command(data_dir(folder) / base, size)}"
        )
    raise FewShotError(
        f"unknown environment {name!r}{suggest(name, ENVS)}; known: {', '.join(ENVS)}, or module:Class; prepared data "
        f"sets are looked for in {data_dir(folder)}"
    )


def is_known(name: str, folder: str | Path | None = None) -> bool:
    """Whether `name` is an environment, a prepared data set, or a mixture of such."""
    register_prepared(folder)
    return all(part.strip() in ENVS for part in name.split("+"))


def _of_module(module: str, name: str) -> EnvEntry:
    """The environment that a module registers under this name or id, or whose sampler class it holds."""
    address = f"{module}:{name}"
    plugins.search_current_folder()
    try:
        imported = import_module(module)
    except (Exception, SystemExit) as error:  # it is the user's, and may do anything
        raise FewShotError(f"the module of the environment {address!r} cannot be imported: {said(error)}") from error
    for entry in ENVS.values():
        if name in (entry.name, entry.id):
            return replace(entry, address=f"{module}:{entry.id}")
    if not hasattr(imported, name.partition(".")[0]):
        raise FewShotError(f"{module} neither registers an environment {name!r} nor holds a sampler class of that name")
    entry = EnvEntry(address, f"FewShot/{module}.{name}-v0", address, "a custom sampler")
    if entry.id not in gymnasium.registry:
        _register_id(entry)
    return entry


def _mixture(parts: list[EnvEntry]) -> EnvEntry:
    """The entry of a mixture, registered with Gymnasium but not in `ENVS`."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise FewShotError(f"the mixture {'+'.join(names)} names an environment twice; name each once")
    name, id_ = "+".join(names), f"FewShot/{'.'.join(names).replace(':', '.')}-v0"  # names of environments have no dot
    summary, address = f"each task from one of {', '.join(names)}", "+".join(part.address for part in parts)
    sampler = partial(_mixture_sampler, tuple((part.name, part.sampler) for part in parts))
    entry = EnvEntry(name, id_, sampler, summary, address)
    if id_ not in gymnasium.registry:
        _register_id(entry)
    return entry


@cache
def _mixture_sampler(parts: tuple[tuple[str, SamplerSource], ...]) -> type[TaskSampler]:
    """The sampler class of a mixture."""
    from fewshot_env.mixture import mixture_of

    return mixture_of(dict(parts))


def load_plugins() -> None:
    """Register the entry points `fsl.envs`, each once (a broken one warns and is skipped), and prepared data sets."""

    def add(point: EntryPoint) -> None:
        entry = point.load()
        if not isinstance(entry, EnvEntry):
            raise FewShotError(f"{point.value} is not a fewshot_env.EnvEntry, but {type(entry).__name__}")
        register(entry)

    plugins.register_new("fsl.envs", "environment", add)
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
        "synthetic characters, 28x28 RGB, 200/50/50 classes",
    )
)
register(
    EnvEntry(
        "textures",
        "FewShot/Textures-v0",
        "fewshot_env.worlds.sampler:Textures",
        "synthetic textures, 28x28 RGB, 200/50/50 classes",
    )
)
