"""Episodes per second from a prepared data set, and the memory it takes: `python benchmarks/sampling.py [FOLDER]`.

5-way tasks of 105 images (5 support, 16 query each) from the train split of a data set as large as the full
miniImageNet (38,400 images of noise in a temporary folder, 0.8 GB; or the data set `mini` in FOLDER), as uint8, one
thread. For comparison, learn2learn's default transforms over images in memory, where it is installed. Values are those
of the fastest of the interleaved rounds, since other work on a busy machine slows the rest.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fewshot_env.data.source import SourceImage
from fewshot_env.data.write import write_store
from fewshot_env.images import ImageSampler
from fewshot_env.rng import task_seeds
from fewshot_env.store import ImageStore
from runners.config.machine import tune

ROUNDS, EPISODES, BATCHES = 15, 100, (1, 4, 10)
CLASSES, PER_CLASS = 64, 600
Sample = Callable[[int], object]


def noise_store(folder: Path) -> ImageStore:
    """A data set of random images, 64 classes of 600."""
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (PER_CLASS, 84, 84, 3), np.uint8)
    images = [
        SourceImage(f"{i:03d}", f"{c:02d}", "train", block[(i + 7 * c) % PER_CLASS])
        for c in range(CLASSES)
        for i in range(PER_CLASS)
    ]
    write_store(folder / "noise", "noise", images, {}, lambda items: items, False)
    return ImageStore.open(folder / "noise")


def ours(store: ImageStore, batch: int) -> Sample:
    """Sample `batch` tasks at once."""
    sampler = ImageSampler(store, n_shot=5, n_query=16)
    return lambda start: sampler.sample(task_seeds(0, "train", start, batch))


def learn2learn() -> Sample | None:
    """learn2learn's transforms as its own examples chain them, one task at a time; None where it is not installed."""
    try:
        from learn2learn.data import MetaDataset, TaskDataset
        from learn2learn.data.transforms import ConsecutiveLabels, KShots, LoadData, NWays, RemapLabels
    except ImportError as error:
        print(f"learn2learn is skipped: {error}")
        return None
    held = torch.rand(CLASSES * 60, 3, 84, 84)  # float32, as learn2learn keeps miniImageNet; 60 a class: 0.3 GB
    data = MetaDataset(torch.utils.data.TensorDataset(held, torch.arange(len(held)) // 60))
    chain = [NWays(data, 5), KShots(data, 21), LoadData(data), RemapLabels(data), ConsecutiveLabels(data)]
    tasks = TaskDataset(data, task_transforms=chain)
    return lambda start: tasks.sample()


def anonymous_mb() -> float:
    """Resident anonymous memory of this process in MB (10^6 bytes); what is mapped from files does not count."""
    (line,) = [v for v in Path("/proc/self/status").read_text().splitlines() if v.startswith("RssAnon")]
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Print the table and the memory."""
    tune(1)
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore.open(Path(sys.argv[1]) / "mini") if sys.argv[1:] else noise_store(Path(folder))
        before = anonymous_mb()  # most of it is what importing torch takes
        samplers = {f"ours, {batch} at once": (ours(store, batch), batch) for batch in BATCHES}
        images = sum(c.count for c in store.of_split("train"))
        for sample, batch in samplers.values():
            for start in range(0, 1000, batch):
                sample(start)
        after = anonymous_mb()
        print(f"{images} images: {after - before:.0f} MB anonymous for data set and episodes, {before:.0f} before")
        if (peer := learn2learn()) is not None:
            samplers["learn2learn, one at a time"] = (peer, 1)
        best = dict.fromkeys(samplers, 0.0)
        for _ in range(ROUNDS):
            for name, (sample, batch) in samplers.items():
                begin = time.perf_counter()
                for start in range(0, EPISODES, batch):
                    sample(start)
                best[name] = max(best[name], EPISODES / (time.perf_counter() - begin))
    print("| sampler | episodes/s |\n|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.0f} |")


if __name__ == "__main__":
    main()
