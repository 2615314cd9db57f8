"""N-way k-shot image tasks from a prepared store (paper, Sect. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fewshot_env.datasets import open_store
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.rng import draw_distinct, uniforms
from fewshot_env.sampler import TaskConfig
from fewshot_env.store import ImageStore, data_dir


class ImageConfig(TaskConfig):
    """Settings of image tasks."""

    n_way: int = Field(5, ge=2, description="classes in a task")
    n_shot: int = Field(1, ge=1, description="support images per class")
    n_query: int = Field(16, ge=1, description="query images per class (published implementation: 16)")
    data_dir: str | None = Field(
        None, description="folder of prepared stores; default $FSL_HOME/data or ~/.cache/fsl/data"
    )


class ImageSampler:
    """Deals n_way classes and n_shot + n_query distinct images of each; order shuffled, labels by draw."""

    Config: ClassVar[type[TaskConfig]] = ImageConfig

    def __init__(self, store: ImageStore, **settings: Any) -> None:
        self.config = config = ImageConfig(**settings)
        self.store = store
        self.classes = store.of_split(config.split)
        n_base = len(store.of_split("train"))
        n_outputs = n_base if config.minibatch else config.n_way
        size = store.images.shape[1:3]
        self.spec = TaskSpec("classification", (3, *size), n_outputs, n_base, (0.0, 1.0), (0, n_outputs - 1))
        self._check()
        self.support_size = 0 if config.minibatch else config.n_way * config.n_shot
        self.query_size = config.minibatch or config.n_way * config.n_query
        tasks = config.model_dump_json(exclude={"data_dir"})
        self.fingerprint = f"images-v0 {store.name} {store.index['sha256']} {tasks}{store.own_split}"
        self._starts = np.array([c.start for c in self.classes], dtype=np.int64)
        self._images = np.asarray(store.images)  # the same map, without the subclass's bookkeeping
        self._counts = np.array([c.count for c in self.classes], dtype=np.int64)

    def _check(self) -> None:
        c, where = self.config, f"the {self.config.split} split of {self.store.name}"
        if not self.classes:
            raise FewShotError(f"{where} holds no classes; prepare a fuller copy of the data set")
        if c.minibatch:
            return
        if c.n_way > len(self.classes):
            raise FewShotError(f"{where} has {len(self.classes)} classes, but n_way is {c.n_way}; lower n_way")
        smallest = min(self.classes, key=lambda k: k.count)
        if c.n_shot + c.n_query > smallest.count:
            raise FewShotError(
                f"class {smallest.name} in {where} has {smallest.count} images, but n_shot + n_query needs "
                f"{c.n_shot} + {c.n_query} = {c.n_shot + c.n_query}; lower one of them"
            )

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Deal one task per seed: x uint8 [B, S, 3, H, W] (channels last in memory), y int64 [B, S]."""
        if self.config.minibatch:
            return self._minibatch(task_seeds)
        c, b = self.config, len(task_seeds)
        m, s, q = c.n_shot + c.n_query, self.support_size, self.query_size
        u = uniforms(task_seeds, c.n_way + c.n_way * m + s + q)
        chosen = draw_distinct(u[:, : c.n_way], np.full(b, len(self.classes)))  # [B, N]
        within = u[:, c.n_way : c.n_way + c.n_way * m].reshape(b * c.n_way, m)
        picks = draw_distinct(within, self._counts[chosen].ravel()).reshape(b, c.n_way, m)
        items = self._starts[chosen][..., None] + picks  # [B, N, m]

        def split(of_class: NDArray[np.int64], shuffle: NDArray[np.float64]) -> Split:
            order = shuffle.argsort(axis=1, kind="stable")  # item i of the task has label i // (items of a class)
            shuffled = of_class.reshape(b, -1)[np.arange(b)[:, None], order]
            return Split(self._read(shuffled), torch.from_numpy(order // of_class.shape[2]))

        return Episode(split(items[:, :, : c.n_shot], u[:, -s - q : -q]), split(items[:, :, c.n_shot :], u[:, -q:]))

    def _minibatch(self, task_seeds: Sequence[int]) -> Episode:
        """Images drawn uniformly from the whole split, with replacement; labels are class numbers."""
        u = uniforms(task_seeds, self.query_size)
        ends = self._counts.cumsum()
        flat = (u * ends[-1]).astype(np.int64)
        labels = np.searchsorted(ends, flat, side="right")
        items = self._starts[labels] + flat - (ends - self._counts)[labels]
        empty = Split(self._read(items[:, :0]), torch.zeros(len(items), 0, dtype=torch.int64))
        return Episode(empty, Split(self._read(items), torch.from_numpy(labels)))

    def _read(self, items: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._images[items]).permute(0, 1, 4, 2, 3)


class StoredImages(ImageSampler):
    """Image tasks of the prepared data set `dataset`."""

    dataset: ClassVar[str]

    def __init__(self, **settings: Any) -> None:
        store = open_store(self.dataset, data_dir(ImageConfig(**settings).data_dir))
        super().__init__(store, **settings)


class MiniImageNet(StoredImages):
    """miniImageNet, split by Ravi & Larochelle (2017): 64 / 16 / 20 classes of 600 images."""

    dataset = "mini"


class CUB(StoredImages):
    """CUB-200-2011, split by Chen et al. (2019): 100 / 50 / 50 classes of 41 to 60 images."""

    dataset = "cub"


class Omniglot(StoredImages):
    """Omniglot by alphabets, as Meta-Dataset splits it: 883 / 81 / 659 characters of 20 drawings."""

    dataset = "omniglot"
