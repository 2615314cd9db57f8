"""N-way k-shot image tasks from a prepared data set (paper, Sect. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fewshot_env.datasets import open_store
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.rng import SPLITS, draw_distinct, uniforms
from fewshot_env.sampler import EmptySplit, TaskConfig
from fewshot_env.shapes import MAX_ITEMS, IntRange, at_least, bounds, common_shape, draw_counts
from fewshot_env.store import ImageStore, data_dir, prepare_command


class ImageConfig(TaskConfig):
    """Settings of image tasks."""

    n_way: Annotated[IntRange, at_least(2)] = Field(5, description="classes of a task; LOW-HIGH: drawn for every task")
    n_shot: Annotated[IntRange, at_least(1)] = Field(1, description="support images per class; LOW-HIGH: drawn")
    balanced: bool = Field(True, description="draw n_shot once per task; false: once per class of a task")
    n_query: int = Field(16, ge=1, le=MAX_ITEMS, description="query images per class (published implementation: 16)")
    data_dir: str | None = Field(
        None, description="folder of the prepared data sets; default $FSL_HOME/data or ~/.cache/fsl/data"
    )


def tasks_key(config: ImageConfig) -> str:
    """The settings that decide which tasks are sampled, for the fingerprint; as in older versions where `balanced`."""
    return config.model_dump_json(exclude={"data_dir", "balanced"} if config.balanced else {"data_dir"})


class ImageSampler:
    """Samples n_way classes and n_shot + n_query distinct images of each; items are shuffled, labels random.

    Args:
        store: the prepared data set.
        settings: fields of `ImageConfig`: split, minibatch, n_way, n_shot (support images per class), balanced,
            n_query (query images per class).

    Raises:
        FewShotError: where the split has too few classes, or a class too few images.
        SettingError: where a setting is unknown or has a wrong value.

    Example:
        >>> ImageSampler(ImageStore.open(folder), n_way=5, n_shot=1).sample([1, 2]).support.x.shape
        torch.Size([2, 5, 3, 84, 84])
    """

    Config: ClassVar[type[TaskConfig]] = ImageConfig

    def __init__(self, store: ImageStore, **settings: Any) -> None:
        self.config = config = ImageConfig(**settings)
        self.store = store
        self.classes = store.of_split(config.split)
        n_base = len(store.of_split("train"))
        (_, self._ways), (_, self._shots) = bounds(config.n_way), bounds(config.n_shot)
        n_outputs = n_base if config.minibatch else self._ways
        size = store.images.shape[1:3]
        names = tuple(c.name for c in store.of_split("train"))
        self.spec = TaskSpec("classification", (3, *size), n_outputs, n_base, (0.0, 1.0), (0, n_outputs - 1), names)
        self._check_split()
        self.varies = not (config.minibatch or (isinstance(config.n_way, int) and isinstance(config.n_shot, int)))
        self.support_size = 0 if config.minibatch else self._ways * self._shots
        self.query_size = config.minibatch or self._ways * config.n_query
        self.fingerprint = f"images-v0 {store.name} {store.index['sha256']} {tasks_key(config)}{store.split_key}"
        self._starts = np.array([c.start for c in self.classes], dtype=np.int64)
        self._images = np.asarray(store.images)  # the same memory map as a plain array, which indexes faster
        self._counts = np.array([c.count for c in self.classes], dtype=np.int64)

    def _check_split(self) -> None:
        c, where = self.config, f"the {self.config.split} split of {self.store.name}"
        if not self.classes:
            held = [split for split in SPLITS if self.store.of_split(split)]
            raise EmptySplit(
                f"{where} holds no classes, only {' and '.join(held)} does; "
                + (
                    "name another environment to train on: 'SOURCE->TARGET'"
                    if held == ["test"]
                    else f"prepare it with other splits: {prepare_command(self.store.path)} --split ..."
                )
            )
        if c.minibatch:
            return
        if self._ways > len(self.classes):
            classes = len(self.classes)
            have = f"{classes} class{'es' * (classes > 1)}"
            advice = f"set env.n_way={classes}" if classes > 1 else "a task needs 2: split the classes otherwise"
            raise FewShotError(f"{where} has {have}, but n_way is {self._ways}; {advice}")
        smallest = min(self.classes, key=lambda k: k.count)
        if self._shots + c.n_query > smallest.count:
            raise FewShotError(
                f"class {smallest.name} in {where} has {smallest.count} images, but n_shot + n_query needs "
                f"{self._shots} + {c.n_query} = {self._shots + c.n_query}; lower one of them"
            )

    def shapes(self, task_seeds: Sequence[int]) -> NDArray[np.int64]:
        """int64 [B, 3]: each task's numbers of classes, support items and query items."""
        return self._shapes_of(self._draw_shots(task_seeds))

    def _shapes_of(self, shots: NDArray[np.int64]) -> NDArray[np.int64]:
        ways = (shots > 0).sum(1)
        return np.stack([ways, shots.sum(1), ways * self.config.n_query], axis=1)

    def _draw_shots(self, task_seeds: Sequence[int]) -> NDArray[np.int64]:
        """int64 [B, N]: support images of each class of each task, 0 for classes that a task does not have."""
        c = self.config
        ways = draw_counts(task_seeds, 0, 1, c.n_way)
        shots = draw_counts(task_seeds, 1, 1 if c.balanced else self._ways, c.n_shot)
        return np.where(np.arange(self._ways) < ways, shots, 0)

    def sample(self, task_seeds: Sequence[int]) -> Episode:
        """Sample one task per seed.

        Args:
            task_seeds: B integers in [0, 2^64).

        Returns:
            x uint8 [B, S, 3, H, W] in [0, 255] (channels last in memory) and y int64 [B, S] in [0, n_way), likewise
            the query. With `minibatch` = m > 0 the support is empty, and the query holds m images of the whole split
            with the numbers of their classes.

        Raises:
            FewShotError: where the tasks of these seeds have different shapes (a drawn `n_way` or `n_shot`).
        """
        if self.config.minibatch:
            return self._minibatch(task_seeds)
        c, b, n = self.config, len(task_seeds), self._ways
        m, most_s, most_q = self._shots + c.n_query, n * self._shots, n * c.n_query
        u = uniforms(task_seeds, n + n * m + most_s + most_q)
        chosen = draw_distinct(u[:, :n], np.full(b, len(self.classes)))  # [B, N]
        within = u[:, n : n + n * m].reshape(b * n, m)
        picks = draw_distinct(within, self._counts[chosen].ravel()).reshape(b, n, m)
        items = self._starts[chosen][..., None] + picks  # [B, N, m]

        shots = self._draw_shots(task_seeds)  # [B, N]
        common_shape(self._shapes_of(shots))
        in_support = np.arange(self._shots) < shots[..., None]  # [B, N, shots]: the same number for every task
        in_query = np.broadcast_to(shots[..., None] > 0, (b, n, c.n_query))
        labels = np.broadcast_to(np.arange(n)[:, None], (b, n, m))

        def split(of_class: slice, used: NDArray[np.bool_], shuffle: NDArray[np.float64]) -> Split:
            images, y = items[:, :, of_class][used].reshape(b, -1), labels[:, :, of_class][used].reshape(b, -1)
            rows, order = np.arange(b)[:, None], shuffle[:, : y.shape[1]].argsort(axis=1, kind="stable")
            return Split(self._read(images[rows, order]), torch.from_numpy(y[rows, order]))

        support = split(slice(self._shots), in_support, u[:, -most_s - most_q : -most_q])
        return Episode(support, split(slice(self._shots, m), in_query, u[:, -most_q:]))

    def _minibatch(self, task_seeds: Sequence[int]) -> Episode:
        """Images drawn uniformly from the whole split, with replacement; labels are the numbers of their classes."""
        u = uniforms(task_seeds, self.config.minibatch)
        ends = self._counts.cumsum()
        flat = (u * ends[-1]).astype(np.int64)  # positions among the images of this split
        labels = np.searchsorted(ends, flat, side="right")
        items = self._starts[labels] + flat - (ends - self._counts)[labels]
        empty = Split(self._read(items[:, :0]), torch.zeros(len(items), 0, dtype=torch.int64))
        return Episode(empty, Split(self._read(items), torch.from_numpy(labels)))

    def _read(self, items: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._images[items]).permute(0, 1, 4, 2, 3)


class StoredImages(ImageSampler):
    """Image tasks of the prepared data set named `dataset`.

    Args:
        settings: as for `ImageSampler`, and data_dir, the folder of the prepared data sets.

    Raises:
        FewShotError: as `ImageSampler`, and where the data set is not prepared.
    """

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
