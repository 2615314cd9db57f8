"""The one place that loads code by name: entry points of installed packages, and "module:Name" that a user typed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Literal

from fewshot_env.errors import FewShotError, said

Group = Literal["fsl.agents", "fsl.envs", "fsl.loggers", "fsl.datasets"]
_seen: set[tuple[str, str, str]] = set()


def load(where: str, what: str) -> Any:
    """Import "module:Name".

    Args:
        where: "module:Name"; the module is looked for on the Python path and in the current folder.
        what: what is being loaded, for messages: "agent 'proto'".

    Raises:
        FewShotError: where there is no such module or name, or importing it raises anything (its cause).
    """
    module, colon, name = where.partition(":")
    if not (colon and module and name):
        raise FewShotError(f"the {what} is named {where!r}, but must be module:Name")
    search_current_folder()
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # importing runs code that may do anything
        advice = ""
        if module == "__main__":
            advice = "; it was defined in a script or a notebook: load it there, or pass the class (cls=)"
        elif isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            advice = f"; run this where {error.name} can be imported, for example in the folder of {error.name}.py"
        raise FewShotError(f"the {what} cannot be imported: {said(error)}{advice}") from error
    return found


def search_current_folder() -> None:
    """Have imports look into the current folder too, which an installed command does not do by itself."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def name_of(named: type | Callable[..., Any]) -> str:
    """The "module:Name" from which `load` gives this class or function.

    Raises:
        FewShotError: for one that is defined inside a function, which no other process could import.
    """
    if not hasattr(named, "__qualname__"):
        raise FewShotError(f"{type(named).__name__} is not a class or a function; name one at the top of a module")
    if "<" in named.__qualname__:
        raise FewShotError(
            f"{named.__qualname__} is defined inside a function or is a lambda; define it at the top of a module"
        )
    return f"{named.__module__}:{named.__qualname__}"


def points(group: Group) -> list[EntryPoint]:
    """The entry points of a group, whether or not they were met before."""
    return list(entry_points(group=group))


def register_new(group: Group, what: str, register: Callable[[EntryPoint], None]) -> None:
    """Pass every entry point that was not met before to `register`; one that fails is warned about and skipped.

    Args:
        group: the entry-point group.
        what: what the group holds, for the warning: "agent".
        register: takes an entry point; whatever it raises is reported in one line.
    """
    for point in points(group):
        if (group, point.name, point.value) in _seen:
            continue
        _seen.add((group, point.name, point.value))
        try:
            register(point)
        except (Exception, SystemExit) as error:  # a broken plug-in must not break fsl
            warnings.warn(f"the {what} plug-in {point.name!r} was skipped: {said(error)}", stacklevel=2)


def check_without_importing(point: EntryPoint) -> None:
    """Raise FewShotError where an entry point is not "module:Name" or its package is absent; its code is not run."""
    if not point.pattern.match(point.value):
        raise FewShotError(f"{point.value!r} is not module:Class")
    if find_spec(point.module.partition(".")[0]) is None:
        raise FewShotError(f"there is no package for {point.value}")
