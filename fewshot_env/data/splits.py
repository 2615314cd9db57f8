"""The official splits, which ship as lists of classes beside this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from fewshot_env.errors import FewShotError


@dataclass(frozen=True)
class SplitList:
    """A published split: whose it is, its numbers {split: [classes, images]}, its classes, files left out of it."""

    title: str
    official: Mapping[str, list[int]]
    split_of: Mapping[str, str]
    dropped: frozenset[str]

    def of(self, class_name: str, where: str) -> str:
        """The split of a class ("Alphabet/character" counts as its alphabet); FewShotError for one not listed."""
        found = self.split_of.get(class_name) or self.split_of.get(class_name.partition("/")[0])
        if found is None:
            raise FewShotError(f"{where} holds class {class_name}, which the {self.title} split puts into no split")
        return found

    def confirm(self, class_name: str, split: str, where: str) -> None:
        """Raise FewShotError unless the list puts the class into `split`."""
        if (listed := self.of(class_name, where)) != split:
            raise FewShotError(
                f"{where} holds class {class_name}, which the {self.title} split puts into {listed}; "
                "use the official lists"
            )


@cache
def split_list(name: str) -> SplitList:
    """The shipped list called `name`, for example "mini" or "cub-meta-dataset"."""
    folder = files("fewshot_env") / "splits"
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    if "classes_of" in found:
        split_of = split_list(found["classes_of"]).split_of
    else:
        split_of = {class_name: split for split, names in found["classes"].items() for class_name in names}
    return SplitList(found["title"], found["official"], split_of, frozenset(found.get("dropped", ())))
