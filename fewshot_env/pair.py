"""EnvPair: 'mini' or 'mini->cub': train and validate on the source, test on the target."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.registry import EnvEntry, find, is_known
from fewshot_env.store import data_dir, is_prepared, prepare_command


def file_name(text: str) -> str:
    """The name of an agent, an environment or a cell as part of a file's or folder's name."""
    return re.sub(r"[^\w.+-]+", "_", text)


@dataclass(frozen=True)
class EnvPair:
    """The environment of meta-training and validation, and the one of the meta-test."""

    source: EnvEntry
    target: EnvEntry

    @classmethod
    def parse(cls, text: str, folder: str | Path | None = None) -> EnvPair:
        """Read NAME, NAME->NAME, NAME→NAME or NAME:NAME; raises FewShotError for anything else.

        NAME+NAME is a mixture of domains: 'mini+cub->omniglot'.
        folder: of the prepared data sets, whose names are known too (default: `store.data_dir()`).
        A NAME may be a Gymnasium id, also with the module that registers it: "my_pkg.envs:FewShot/Own-v0", or a sampler
        class: "my_module:MySampler".
        """
        names = [name.strip() for name in re.split(r"->|→", text)]
        left, colon, right = (part.strip() for part in text.partition(":"))
        if len(names) == 1 and colon and "/" not in text and (is_known(left, folder) or is_known(right, folder)):
            names = [left, right]  # else it is module:Class
        if len(names) > 2 or not all(names) or (colon and not (left and right)):
            raise FewShotError(f"--env is {text!r}, but must be NAME or 'SOURCE->TARGET', for example 'mini->cub'")
        return cls(find(names[0], folder), find(names[-1], folder))

    def __str__(self) -> str:
        """What `parse` reads, in another process, too: with the modules that register the environments."""
        if self.source.id == self.target.id:
            return self.source.address
        return f"{self.source.address}->{self.target.address}"

    @property
    def slug(self) -> str:
        """The pair as part of a folder name."""
        names = dict.fromkeys((self.source.name, self.target.name))
        return file_name("-to-".join(names))

    def check(self, source: TaskSpec, target: TaskSpec, sizes: Collection[str] = ()) -> None:
        """Raise FewShotError unless tasks of both have equal spaces (one network must fit both).

        sizes: which of "source" and "target" have the setting `size`, which the message then names.
        """
        ours = (source.kind, source.in_shape, source.n_outputs)
        theirs = (target.kind, target.in_shape, target.n_outputs)
        if ours != theirs:
            raise FewShotError(
                f"{self} pairs different spaces: {self.source.name} has {_space(ours)}, {self.target.name} has "
                f"{_space(theirs)}; {self._remedy(source, target, sizes)}"
            )

    def _remedy(self, source: TaskSpec, target: TaskSpec, sizes: Collection[str]) -> str:
        """What makes the spaces of two families equal."""
        alike = source.kind == target.kind and len(source.in_shape) == len(target.in_shape) == 3
        if not alike or source.in_shape == target.in_shape:
            return "choose two environments with equal inputs and outputs"
        if sizes:
            wanted = target.in_shape if "source" in sizes else source.in_shape
            return f"make them equal with --set env.size={wanted[1]}"
        ends = ((source.in_shape, self.source.name), (target.in_shape, self.target.name))
        (_, small), ((_, size, width), _) = sorted(ends)
        if source.in_shape[0] != target.in_shape[0] or size != width or not is_prepared(data_dir() / small):
            return "choose two environments with equal inputs and outputs"
        return f"make them equal, for example: {prepare_command(data_dir() / small, size)}"


def _space(space: tuple[str, tuple[int, ...], int]) -> str:
    kind, shape, outputs = space
    return f"{kind} of inputs {'x'.join(map(str, shape))} with {outputs} outputs"
