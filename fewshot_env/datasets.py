"""The image data sets that `fsl data` knows by name: the built-in ones, those of plug-ins, and your own folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

from fewshot_env.data import cub, folders, mini, omniglot
from fewshot_env.data.download import Remote
from fewshot_env.data.source import Layout
from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError
from fewshot_env.plugins import register_new
from fewshot_env.store import NAME, ImageStore, is_prepared, prepare_command


@dataclass(frozen=True)
class Dataset:
    """What `fsl data prepare NAME` knows about an image data set; plug-ins offer one by an entry point `fsl.datasets`.

    Attributes:
        name: what people type; letters, digits, `-` and `_`.
        title: its full name, for messages.
        terms: the terms of use, shown before a download.
        layouts: the forms in which people have it; the first that fits is read.
        splits: the published splits, {name for --split: list of classes}, the default first; a list is named as
            `fewshot_env.data.splits.split_list` takes it. Without any, the user chooses the split.
        has_boxes: whether images can be cropped to bounding boxes (--crop).
        remotes: the files to download with --download, if it has stable public addresses.
    """

    name: str
    title: str
    terms: str
    layouts: tuple[Layout, ...]
    splits: Mapping[str, str] = field(default_factory=dict)
    has_boxes: bool = False
    remotes: tuple[Remote, ...] = ()

    @property
    def expected(self) -> str:
        """A description of the layouts, for messages."""
        return ", or ".join(layout.description for layout in self.layouts)


DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            "mini",
            "miniImageNet",
            "ImageNet's terms: non-commercial research only",
            mini.LAYOUTS,
            splits={"ravi": "mini"},
        ),
        Dataset(
            "cub",
            "CUB-200-2011",
            "non-commercial research; the photographers keep their rights",
            cub.LAYOUTS,
            splits={
                "chen": "cub",
                "meta-dataset": "cub-meta-dataset",
                "meta-dataset-no-imagenet": "cub-meta-dataset-no-imagenet",
            },
            has_boxes=True,
            remotes=(
                Remote(
                    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
                    "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
                ),
            ),
        ),
        Dataset(
            "omniglot",
            "Omniglot",
            "the MIT licence of its repository, brendenlake/omniglot",
            omniglot.LAYOUTS,
            splits={"meta-dataset": "omniglot"},
            remotes=tuple(
                Remote(
                    f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{part}.zip",
                    f"md5:{checksum}",
                )  # torchvision lists these; no SHA-256 is published
                for part, checksum in zip(
                    omniglot.PARTS,
                    ("68d2efa1b9178cc56df9314c21c6e718", "6b91aef0f799c5bb55b94e3f2daec811"),
                    strict=True,
                )
            ),
        ),
    )
}
BUILT_IN = frozenset(DATASETS)


def known_datasets() -> dict[str, Dataset]:
    """The data sets by name, with those of plug-ins; a broken plug-in is warned about and skipped."""
    register_new("fsl.datasets", "data set", _register)
    return DATASETS


def _register(point: EntryPoint) -> None:
    dataset = point.load()
    if not isinstance(dataset, Dataset):
        raise FewShotError(f"{point.value} is not a fewshot_env.datasets.Dataset, but {type(dataset).__name__}")
    if dataset.name in DATASETS:
        raise FewShotError(f"the data set {dataset.name!r} is already registered; choose another name")
    check_name(dataset.name)
    if not dataset.layouts:
        raise FewShotError(f"the data set {dataset.name!r} has no layouts; give at least one")
    for name in dataset.splits.values():
        split_list(name)
    DATASETS[dataset.name] = dataset


def find_dataset(name: str) -> Dataset:
    """The data set of that name; any name that is not known is one for the user's own images.

    Raises:
        FewShotError: where the name has other characters than letters, digits, `-` and `_`.
    """
    if name in DATASETS or name in known_datasets():
        return DATASETS[name]
    check_name(name)
    return Dataset(name, name, "your own images", folders.LAYOUTS)


def check_name(name: str) -> None:
    """Raise FewShotError where `name` cannot name a data set."""
    if not NAME.fullmatch(name):
        raise FewShotError(f"{name!r} cannot name a data set; use letters, digits, - and _, for example my-birds")


def how_to_prepare(dataset: Dataset, folder: Path) -> str:
    """The command that prepares a data set below `folder`, and the option that fetches it where it can be fetched."""
    download = " (or --download instead of --source PATH)" if dataset.remotes else ""
    return prepare_command(folder / dataset.name) + download


def open_store(name: str, folder: Path) -> ImageStore:
    """Open a prepared data set.

    Args:
        name: its name.
        folder: the folder of the prepared data sets.

    Raises:
        FewShotError: where it is damaged or not prepared; the message says how to prepare it.
    """
    if not is_prepared(folder / name):
        dataset = find_dataset(name)
        raise FewShotError(
            f"{dataset.title} is not prepared in {folder / name}; get {dataset.expected}, "
            f"then run: {how_to_prepare(dataset, folder)}"
        )
    return ImageStore.open(folder / name)
