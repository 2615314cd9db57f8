"""Shared fixtures: small image data in the original layouts, and the real images where FSL_DATA names them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_env.data.splits import split_list
from fewshot_env.datasets import prepare
from fewshot_env.registry import ENVS
from fewshot_env.store import ImageClass, ImageStore

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # where a shell runs the suite in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Skip by name what this machine can not run."""
    no_data = pytest.mark.skip(reason="FSL_DATA is not set: the folder with mini-imagenet/ and CUB_200_2011/")
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    no_slurm = pytest.mark.skip(reason="no Slurm is running (tests/cluster/start_slurm.sh starts one)")
    slurm = bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    for item in items:
        if "real_data" in item.fixturenames and not os.environ.get("FSL_DATA"):
            item.add_marker(no_data)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if "slurm" in item.keywords and not slurm:
            item.add_marker(no_slurm)


@pytest.fixture(autouse=True)
def _forget_environments():
    """Take the environments that a test registers out of the registries again."""
    known = set(ENVS)
    yield
    for name in set(ENVS) - known:
        gymnasium.registry.pop(ENVS.pop(name).id)


@pytest.fixture
def float64():
    """Float64 as the default type, for proofs."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def write_image(file: Path, seed: int, hue: float, mode: str = "RGB") -> None:
    """A noisy image whose colour tells its class."""
    rng = np.random.default_rng(seed)
    base = np.array([hue, 1 - hue, (hue * 7) % 1]) * 200
    pixels = np.clip(base + rng.normal(0, 40, (30, 40, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.convert(mode).save(file, quality=90)


def write_mini(folder: Path, n_images: int = 8) -> Path:
    """A small miniImageNet in the original layout: 8 / 6 / 6 official classes."""
    split_of = split_list("mini").split_of
    (folder / "images").mkdir(parents=True)
    for part, (split, n) in enumerate((("train", 8), ("val", 6), ("test", 6))):
        rows = ["filename,label"]
        for c, wnid in enumerate([w for w, s in split_of.items() if s == split][:n]):
            for i in range(n_images):
                file = f"{wnid}{i:08d}.jpg"
                write_image(folder / "images" / file, 10_000 * part + 1000 * c + i, c / n)
                rows.append(f"{file},{wnid}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_cub(folder: Path, n_classes: int = 24) -> Path:
    """A small CUB in the original layout: uneven classes, one gray-scale image; 12 / 6 / 6 classes."""
    lines, boxes, number = [], [], 0
    for c, name in enumerate(sorted(split_list("cub").split_of)[:n_classes], start=1):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(7 + c % 3):
            number += 1
            write_image(
                folder / "images" / name / f"b{i}.jpg", 77 * c + i, c / n_classes, "L" if number == 3 else "RGB"
            )
            lines.append(f"{number} {name}/b{i}.jpg")
            boxes.append(f"{number} 10.0 5.0 20.0 {10.0 + i}")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")
    return folder


def write_omniglot(folder: Path, n_characters: int = 2) -> Path:
    """A small Omniglot in the original layout, one-bit drawings: 4 alphabets of each split, 5 drawings a character."""
    split_of = split_list("omniglot").split_of
    for split in ("train", "val", "test"):
        part = folder / ("images_evaluation" if split == "test" else "images_background")
        for a, alphabet in enumerate([a for a, s in split_of.items() if s == split][:4]):
            for c in range(1, n_characters + 1):
                place = part / alphabet / f"character{c:02d}"
                place.mkdir(parents=True)
                for i in range(1, 6):
                    strokes = np.random.default_rng([a, c, i]).random((105, 105)) < 0.9
                    Image.fromarray(strokes).save(place / f"{a}{c:03d}_{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Prepared stores of the small mini, cub and omniglot."""
    root = tmp_path_factory.mktemp("data")
    prepare("mini", write_mini(root / "mini-source"), root / "stores")
    prepare("cub", write_cub(root / "cub-source"), root / "stores")
    prepare("omniglot", write_omniglot(root / "omniglot-source"), root / "stores")
    return root / "stores"


@pytest.fixture(scope="session")
def small_store() -> ImageStore:
    """20x20 images in memory: 6 classes of 10 in each split; each pixel tells class and number."""
    images = np.zeros((180, 20, 20, 3), np.uint8)
    rng = np.random.default_rng(0)
    classes = []
    for k in range(18):
        classes.append(ImageClass(f"class{k}", ("train", "val", "test")[k // 6], 10 * k, 10))
        images[10 * k : 10 * k + 10] = np.clip(rng.normal(rng.uniform(50, 200, 3), 30, (10, 20, 20, 3)), 0, 255)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(180) // 10, np.arange(180)
    return ImageStore(Path("memory"), "small", images, tuple(classes), {"sha256": "0" * 64})


@pytest.fixture(scope="session")
def real_data(tmp_path_factory) -> Path:
    """Stores of the real images below FSL_DATA, prepared once."""
    source, root = Path(os.environ["FSL_DATA"]), tmp_path_factory.getbasetemp().parent / "real-stores"
    from filelock import FileLock

    with FileLock(str(root) + ".lock"):
        for name, folder in (("mini", "mini-imagenet"), ("cub", "CUB_200_2011")):
            if not (root / name).exists():
                prepare(name, source / folder, root)
    return root
