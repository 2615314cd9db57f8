"""Prepare an image data set: read it in the form in which the user has it, and write it as RGB pixels of one size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewshot_env.data.download import download
from fewshot_env.data.pixels import colour
from fewshot_env.data.read import read_source, without_missing
from fewshot_env.data.source import PrepareOptions
from fewshot_env.data.splits import split_list
from fewshot_env.data.workspace import put_in_place, workspace
from fewshot_env.data.write import Progress, write_store
from fewshot_env.datasets import BUILT_IN, DATASETS, Dataset, find_dataset
from fewshot_env.errors import FewShotError, suggest
from fewshot_env.registry import ENVS, own_entry
from fewshot_env.store import SIZES, ImageStore, expanded, sized

DEFAULTS = PrepareOptions()


def prepare(
    name: str,
    source: Path | None,
    folder: Path,
    progress: Progress = lambda images: images,
    options: PrepareOptions = DEFAULTS,
    skip_broken: bool = False,
) -> ImageStore:
    """Turn a data set into RGB images in `folder/name`; it then is an environment by its name.

    Images of another size than 84x84 have it in their name: `cub-224`.

    Every image file below the source is in the data set or counted in the index with a reason ("left_out"). Incomplete
    copies are accepted: listed images that are missing are counted, too ("absent"). After an error nothing is left
    behind, and an older version of the data set stays as it was.

    Args:
        name: a known data set (`fewshot_env.datasets`), or a new name for your own images.
        source: a folder or an archive; None downloads the data set.
        folder: the folder of the prepared data sets, for example `fewshot_env.store.data_dir()`.
        progress: wraps the images to show progress while they are read.
        options: the split, how class folders are read, the background of transparent images, whether to crop, the size.
        skip_broken: leave out images that cannot be read, instead of raising an error.

    Returns:
        The prepared data set.

    Raises:
        FewShotError: where the name is an environment's, the layout is not a known one, an image or archive is broken,
            the download fails, or `folder` cannot be written.

    Example:
        >>> birds = prepare("my-birds", Path("my-birds"), data_dir())
    """
    dataset = find_dataset(name)
    if options.size not in SIZES:
        raise FewShotError(f"--size is {options.size}, but must lie in {SIZES[0]} to {SIZES[-1]} pixels")
    asked, name = name, sized(name, options.size)
    source = None if source is None else expanded(source)
    _check_name_is_free(name)
    background = colour(options.background)
    options = _resolve(dataset, options)
    with workspace(folder, name) as work:
        downloaded = folder / f".{name}.download"
        if source is None:
            if not dataset.remotes:
                raise FewShotError(
                    f"{dataset.title} has no stable public address: get {dataset.expected}, and give it with --source"
                )
            download(dataset.remotes, downloaded)
        try:
            whole = read_source(source or downloaded, dataset.layouts, work / "unpacked", options, dataset.expected)
        except FewShotError as error:
            raise FewShotError(f"{error}{'' if dataset.splits else suggest(asked, DATASETS)}") from error
        account, absent = without_missing(whole)
        if not account.images:
            raise FewShotError(
                f"{source or downloaded} holds none of the {absent} images that it lists; expected {dataset.expected}"
            )
        facts: dict[str, Any] = {"title": dataset.title, "terms": dataset.terms, "resize": "Pillow bicubic, RGB"}
        facts |= {"absent": absent, "cropped": options.crop, "background": options.background}
        facts |= {"prepared_as": asked, "size": options.size}
        meant = "" if dataset.splits else suggest(asked, DATASETS)
        notes = (*account.notes, *([f"{asked} is a data set of your own{meant}"] if meant else []))
        facts |= {"left_out": account.left_out, "notes": notes}
        if dataset.splits:
            facts |= {"list": options.split, "official": dict(split_list(str(options.split)).official)}
        write_store(work / "store", name, account.images, facts, progress, skip_broken, background, options.size)
        ImageStore.open(work / "store")
        put_in_place(work / "store", folder / name)
        shutil.rmtree(downloaded, ignore_errors=True)
    return ImageStore.open(folder / name)


def _check_name_is_free(name: str) -> None:
    """Raise FewShotError where an environment that is not a prepared data set has the name or its Gymnasium id."""
    if name in BUILT_IN:  # environments of other ids, each with a sampler class
        return
    prepared = own_entry(name)
    for taken in ENVS.values():
        is_prepared = (taken.name, taken.id, taken.summary) == (prepared.name, prepared.id, prepared.summary)
        if not is_prepared and (taken.name == name or taken.id == prepared.id):
            raise FewShotError(f"{name!r} is already an environment ({taken.id}, {taken.summary}); choose another name")


def _resolve(dataset: Dataset, options: PrepareOptions) -> PrepareOptions:
    """Replace the name of a published split (by default the first) by its list of classes.

    Raises FewShotError for what the data set does not have.
    """
    if options.classes != DEFAULTS.classes and dataset.splits:
        raise FewShotError(f"--classes is for your own images; {dataset.title} has its published classes")
    if options.crop and not dataset.has_boxes:
        raise FewShotError(f"{dataset.title} has no bounding boxes; leave out --crop")
    if not dataset.splits:
        return options
    split = options.split or next(iter(dataset.splits))
    if split not in dataset.splits:
        raise FewShotError(f"--split is {split!r}, but {dataset.title} has the splits {', '.join(dataset.splits)}")
    return replace(options, split=dataset.splits[split])
