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

from fewshot_env.prepare import prepare
from fewshot_env.registry import ENVS
from fewshot_env.store import ImageClass, ImageStore
from tests.helpers.images import write_cub, write_mini, write_omniglot

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # where a shell runs the suite in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Skip by name what this machine cannot run."""
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


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """The small mini, cub and omniglot, prepared."""
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


@pytest.fixture
def tiny(monkeypatch):
    """The quick scale of `fsl reproduce`, much smaller."""
    from runners.reproduce.machinery.grid import Scale
    from runners.reproduce.shared import IMAGE_SCALES, SINE_SCALES
    from tests.helpers.reproduce import TINY

    for scales in (SINE_SCALES, IMAGE_SCALES):
        monkeypatch.setitem(scales, "quick", Scale("quick", 2, TINY))
