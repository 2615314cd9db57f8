"""The commands `fsl data ...`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_env.errors import FewShotError
from runners.cli.options import DataDir

data_app = typer.Typer(help="Prepare image data sets, check them, and see what is there.", no_args_is_help=True)


@data_app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="mini, cub, omniglot, or a name of your own for your own images.")],
    source: Annotated[
        Path | None, typer.Option(help="A folder, or a zip, tar or tar.gz file, with the data set in any known form.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch it from its authors instead (cub, omniglot).")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            help="cub: chen (default), meta-dataset, meta-dataset-no-imagenet. Your own folder of classes: a CSV "
            "file (class,split), or a ratio of classes; default 60/20/20."
        ),
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="cub: keep the bounding box of the bird alone.")] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that can not be read or are tiny, and list them.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Turn a data set into a store of 84x84 images, which then is an environment by its name."""
    from fewshot_env import datasets
    from fewshot_env.data.source import Wish
    from fewshot_env.store import data_dir as store_dir
    from runners.console.progress import over

    if (source is None) == (not download):
        raise FewShotError("give either --source PATH or --download")
    kind = datasets.dataset(name)
    if download and kind.remotes:
        print(f"by downloading {kind.title} you accept its terms: {kind.terms}")
    store = datasets.prepare(
        name,
        source,
        store_dir(data_dir),
        lambda items: over(items, "preparing", "images"),
        Wish(split, crop),
        skip_broken,
    )
    for broken in store.index["skipped"]:
        print(f"left out: {broken}")
    print(f"{store.index['title']} is ready in {store.path}")
    print(f"{store.holdings()}; sha256 {store.index['sha256'][:16]}")


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A prepared data set: see fsl data list.")], data_dir: DataDir = None
) -> None:
    """Verify a prepared data set: checksum, splits, official numbers, and images that occur twice."""
    from fewshot_env.data import check as checks
    from fewshot_env.datasets import open_store
    from fewshot_env.store import data_dir as store_dir

    store = open_store(name, store_dir(data_dir))
    report = checks.check(store)
    print(f"{store.index['title']} in {store.path}")
    print("\n".join(report.lines))


@data_app.command(name="list")
def list_(data_dir: DataDir = None) -> None:
    """The prepared data sets and what they hold."""
    from fewshot_env.datasets import DATASETS
    from fewshot_env.store import ImageStore, is_prepared, prepared_names
    from fewshot_env.store import data_dir as store_dir

    folder = store_dir(data_dir)
    names = [*DATASETS, *(n for n in prepared_names(folder) if n not in DATASETS)]
    width = max(map(len, names))
    print(f"in {folder}")
    for name in names:
        if is_prepared(folder / name):
            print(f"  {name:<{width}} {ImageStore.open(folder / name).holdings()}")
        else:
            dataset = DATASETS[name]
            how = "--download" if dataset.remotes else "--source PATH"
            print(f"  {name:<{width}} not prepared; get {dataset.layout}, then: fsl data prepare {name} {how}")
