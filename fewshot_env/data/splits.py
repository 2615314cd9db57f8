"""Published splits, stored as JSON lists of classes in a package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from fewshot_env.errors import FewShotError, said


@dataclass(frozen=True)
class SplitList:
    """A published split of a data set's classes.

    Attributes:
        title: whose split it is, for messages: "Chen et al.".
        official: the published numbers, {split: [classes, images]}.
        split_of: the split of each class.
        dropped: names of images that the split leaves out.
    """

    title: str
    official: Mapping[str, list[int]]
    split_of: Mapping[str, str]
    dropped: frozenset[str]

    def find_split(self, class_name: str, where: str) -> str:
        """The split of a class; "Alphabet/character" has its alphabet's.

        Raises:
            FewShotError: where the class is not listed; the message names the file or folder `where` it is.
        """
        split = self.split_of.get(class_name) or self.split_of.get(class_name.partition("/")[0])
        if split is None:
            raise FewShotError(f"{where} holds class {class_name}, which the {self.title} split does not list")
        return split

    def require(self, class_name: str, split: str, where: str) -> None:
        """Raise FewShotError unless the class is in `split`; `where` is the file or folder that says so."""
        if (listed := self.find_split(class_name, where)) != split:
            raise FewShotError(
                f"{where} holds class {class_name}, which the {self.title} split puts into {listed}; "
                "use the official lists"
            )


@cache
def split_list(name: str) -> SplitList:
    """Read a published split.

    The file holds {"title": str, "official": {split: [classes, images]}, "classes": {split: [class, ...]}} and, where
    needed, "dropped": [image, ...], or "classes_of": name instead of "classes" for the classes of another list.

    Args:
        name: the name of a list of this package, for example "mini" or "cub-meta-dataset"; or "package:file.json", a
            file inside another installed package.

    Raises:
        FewShotError: where there is no such list.
    """
    package, _, file = name.rpartition(":")
    try:
        path = files(package) / file if package else files("fewshot_env") / "splits" / f"{name}.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "classes_of" in content:
            split_of = split_list(content["classes_of"]).split_of
        else:
            split_of = {class_name: split for split, names in content["classes"].items() for class_name in names}
        return SplitList(content["title"], content["official"], split_of, frozenset(content.get("dropped", ())))
    except (OSError, ImportError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FewShotError(f"the list of classes {name!r} cannot be read ({said(error)})") from error
