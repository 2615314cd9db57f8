"""The image data sets by name: what `fsl data prepare NAME` knows, and how it makes a store of one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_env.data import cub, folders, mini, omniglot
from fewshot_env.data.download import Remote, download
from fewshot_env.data.find import read_source
from fewshot_env.data.source import Layout, Wish
from fewshot_env.data.splits import split_list
from fewshot_env.data.workspace import put_in_place, workspace
from fewshot_env.data.write import Progress, write_store
from fewshot_env.errors import FewShotError, suggest
from fewshot_env.registry import ENVS, own_entry
from fewshot_env.store import NAME, ImageStore, is_prepared

USUAL = Wish()


@dataclass(frozen=True)
class Dataset:
    """An image data set: its forms, published splits (name -> shipped list, the usual first), and addresses."""

    name: str
    title: str
    terms: str
    layouts: tuple[Layout, ...]
    splits: Mapping[str, str] = field(default_factory=dict)
    has_boxes: bool = False
    remotes: tuple[Remote, ...] = ()

    @property
    def layout(self) -> str:
        """The forms in words."""
        return ", or ".join(layout.words for layout in self.layouts)


DATASETS = {
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


def dataset(name: str) -> Dataset:
    """The data set called `name`: a known one, or one's own; raises FewShotError where that can not be a name."""
    if name in DATASETS:
        return DATASETS[name]
    own = own_entry(name)
    for taken in ENVS.values():
        if taken.sampler != own.sampler and (taken.name == name or taken.id == own.id):
            raise FewShotError(f"{name!r} is an environment already ({taken.id}, {taken.summary}); choose another name")
    if not NAME.fullmatch(name):
        raise FewShotError(f"{name!r} can not name a data set; use letters, digits, - and _, for example my-birds")
    return Dataset(name, name, "your own images", folders.LAYOUTS)


def open_store(name: str, folder: Path) -> ImageStore:
    """Open the prepared data set `name` below `folder`; says how to get it where it is missing."""
    if not is_prepared(folder / name):
        kind = dataset(name)
        raise FewShotError(
            f"{kind.title} is not prepared in {folder / name}; get {kind.layout}, "
            f"then run: fsl data prepare {name} --source PATH{' (or --download)' if kind.remotes else ''}"
        )
    return ImageStore.open(folder / name)


def prepare(
    name: str,
    source: Path | None,
    folder: Path,
    progress: Progress = lambda items: items,
    wish: Wish = USUAL,
    skip_broken: bool = False,
) -> ImageStore:
    """Turn the data set at `source` (folder or archive; None: download it) into the store `folder/name`, 84x84 RGB.

    A partial copy is taken as it is: listed images that are absent are counted in the index ("absent").
    Gray-scale images become RGB. Raises FewShotError, with nothing left behind and an older store unharmed, for a
    wrong layout, a broken image (skip_broken leaves such out) or archive, and where `folder` can not be written.
    """
    kind = dataset(name)
    wish = _usable(kind, wish)
    with workspace(folder, name) as work:
        fetched = folder / f".{name}.download"
        if source is None:
            if not kind.remotes:
                raise FewShotError(
                    f"{kind.title} has no stable public address: get {kind.layout}, and give it with --source"
                )
            download(kind.remotes, fetched)
        try:
            sources = read_source(source or fetched, kind.layouts, work / "unpacked", wish, kind.layout)
        except FewShotError as error:
            raise FewShotError(f"{error}{'' if kind.splits else suggest(name, DATASETS)}") from error
        present = [s for s in sources if not isinstance(s.pixels, Path) or s.pixels.exists()]
        if not present:
            raise FewShotError(
                f"{source or fetched} holds none of the {len(sources)} images that it lists; expected {kind.layout}"
            )
        facts: dict[str, Any] = {"title": kind.title, "terms": kind.terms, "resize": "Pillow bicubic, RGB"}
        facts |= {"absent": len(sources) - len(present), "cropped": wish.crop}
        if kind.splits:
            facts |= {"list": wish.split, "official": dict(split_list(str(wish.split)).official)}
        write_store(work / "store", name, present, facts, progress, skip_broken)
        ImageStore.open(work / "store")
        put_in_place(work / "store", folder / name)
        shutil.rmtree(fetched, ignore_errors=True)
    return ImageStore.open(folder / name)


def _usable(kind: Dataset, wish: Wish) -> Wish:
    """The wish with the usual split where none was named; raises FewShotError for what the data set does not have."""
    if wish.crop and not kind.has_boxes:
        raise FewShotError(f"{kind.title} has no bounding boxes; leave out --crop")
    if not kind.splits:
        return wish
    split = wish.split or next(iter(kind.splits))
    if split not in kind.splits:
        raise FewShotError(f"--split is {split!r}, but {kind.title} has the splits {', '.join(kind.splits)}")
    return Wish(kind.splits[split], wish.crop)
