"""The commands `fsl data ...`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot_env.errors import FewShotError
from runners.cli.options import DataDir

data_app = typer.Typer(help="Prepare image data sets, verify them, and list them.", no_args_is_help=True)


@data_app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="A data set of fsl data list, or a new name for your own images.")],
    source: Annotated[
        Path | None, typer.Option(help="A folder, or a zip, tar or tar.gz file, with the data set in any known layout.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download it from its authors instead (cub, omniglot).")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            help="cub: chen (default), meta-dataset, meta-dataset-no-imagenet. Your own classes: a CSV file "
            "(class,split), a ratio of classes (default 60/20/20, where the folders name no splits), or test: all of "
            "them are the target of another data set."
        ),
    ] = None,
    classes: Annotated[
        str,
        typer.Option(
            metavar="leaf|top",
            help="Your own nested folders: leaf: a class is a folder that holds images (default); top: the first "
            "folders are the classes, with everything below them.",
        ),
    ] = "leaf",
    background: Annotated[
        str, typer.Option(metavar="COLOUR", help="What transparent parts are laid over: white, black, '#808080'.")
    ] = "white",
    crop: Annotated[bool, typer.Option("--crop", help="cub: crop images to the bounding box of the bird.")] = False,
    size: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            help="Height and width of the images, 16 to 512; others than 84 become part of the name: cub-224.",
        ),
    ] = 84,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that are unreadable or tiny, and list them.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Turn a data set into images of one size; it then is an environment by its name."""
    from fewshot_env.data.next_steps import next_steps
    from fewshot_env.data.source import PrepareOptions
    from fewshot_env.datasets import find_dataset
    from fewshot_env.prepare import prepare as prepare_dataset
    from fewshot_env.store import USUAL_SIZE
    from fewshot_env.store import data_dir as store_dir
    from runners.console.progress import with_progress

    if (source is None) == (not download):
        raise FewShotError("give either --source PATH or --download")
    dataset = find_dataset(name)
    if download and dataset.remotes:
        print(f"by downloading {dataset.title} you accept its terms: {dataset.terms}")
    store = prepare_dataset(
        name,
        source,
        store_dir(data_dir),
        lambda items: with_progress(items, "preparing", "images"),
        PrepareOptions(split, crop, classes, background, size),
        skip_broken,
    )
    for broken in store.index["skipped"]:
        print(f"left out: {broken}")
    print(f"{store.index['title']} is ready in {store.path}; sha256 {store.index['sha256'][:16]}")
    chosen = [*(["--classes", classes] if classes != "leaf" else []), *(["--crop"] if crop else [])]
    chosen += [*(["--background", background] if background != "white" else []), *(["--skip-broken"] * skip_broken)]
    chosen += ["--size", str(size)] if size != USUAL_SIZE else []
    print("\n".join([*store.account(), *store.index["notes"], *next_steps(store, source, data_dir, chosen)]))


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A prepared data set: see fsl data list.")], data_dir: DataDir = None
) -> None:
    """Verify a prepared data set: checksum, splits, official numbers, and images that occur twice."""
    from fewshot_env.data.verify import verify_store
    from fewshot_env.datasets import open_store
    from fewshot_env.store import data_dir as store_dir

    store = open_store(name, store_dir(data_dir))
    lines = verify_store(store).lines
    print(f"{store.index['title']} in {store.path}")
    print("\n".join(lines))


@data_app.command(name="list")
def list_(data_dir: DataDir = None) -> None:
    """List the known data sets, whether they are prepared, and what they hold."""
    from fewshot_env.datasets import how_to_prepare, known_datasets
    from fewshot_env.store import ImageStore, is_prepared, prepared_names
    from fewshot_env.store import data_dir as store_dir

    folder, known = store_dir(data_dir), known_datasets()
    names = [*known, *(n for n in prepared_names(folder) if n not in known)]
    width = max(map(len, names))
    print(f"in {folder}")
    for name in names:
        if is_prepared(folder / name):
            try:
                state = ImageStore.open(folder / name).holdings()
            except FewShotError as error:
                state = f"damaged: {error}"
            print(f"  {name:<{width}} {state}")
        else:
            dataset = known[name]
            how = how_to_prepare(dataset, folder)
            print(f"  {name:<{width}} not prepared; get {dataset.expected}, then: {how}")
