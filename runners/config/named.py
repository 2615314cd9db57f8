"""Code that a run or a file names is imported only where the caller names it, too: both may be a stranger's."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agents.networks import is_custom
from fewshot_env.errors import FewShotError

OPTIONS = {"agent": "--agent", "agent.network": "--network", "env": "--env"}


def verify_named(source: Path, settings: Mapping[str, Any], named: Iterable[str | None]) -> None:
    """Raise FewShotError where settings name a class or factory that would have to be imported, and `named` does not.

    What the process has imported before, in a notebook for example, needs no name: nothing of it is run.

    Args:
        source: the run's folder, or the file, for the message.
        settings: flat, with "agent", "agent.network" and "env" where these are known.
        named: what the caller gave: module:Class, module:factory, an environment or a pair of them.
    """
    allowed = {part for text in named if text for part in _parts(text)}
    for key, option in OPTIONS.items():
        for name in _parts(str(settings.get(key) or "")):
            own = is_custom(name) if key == "agent.network" else ":" in name
            if own and name not in allowed and name.partition(":")[0] not in sys.modules:
                raise FewShotError(
                    f"{source} names {name}, and neither a file nor the folder of a run imports code by itself; "
                    f"if it is yours, allow it by name: {option} {name}"
                )


def _parts(text: str) -> list[str]:
    """The environments of a pair or a mixture; any other name as it is."""
    return [part.strip() for part in re.split(r"->|→|\+(?=\w)", text) if part.strip()]
