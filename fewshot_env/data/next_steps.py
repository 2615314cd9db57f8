"""What a prepared data set is good for: up to how many ways, and a command to try next that works as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_env.data.class_splits import RATIO
from fewshot_env.errors import command
from fewshot_env.rng import SPLITS
from fewshot_env.store import ImageStore, prepared_names

WAYS, QUERIES = 5, 16
"""The defaults of image tasks (fewshot_env.images.ImageConfig)."""


def next_steps(store: ImageStore, source: Path | None, data_dir: Path | None, chosen: Sequence[str] = ()) -> list[str]:
    """One line for each split, and one or two with a command.

    Args:
        store: the prepared data set.
        source: where it was read from, for a command that prepares it otherwise; None where it was downloaded.
        data_dir: the folder of the prepared data sets as the user gave it, for the commands.
        chosen: other options with which it was prepared, for a command that prepares it otherwise.
    """
    where: list[Path | str] = [] if data_dir is None else ["--data-dir", data_dir]
    return [*_split_lines(store), *_commands(store, source, where, chosen)]


def _split_lines(store: ImageStore) -> list[str]:
    lines = []
    for split in SPLITS:
        held = store.of_split(split)
        if not held:
            lines.append(f"{split}: no classes" + ("; the last weights are tested" if split == "val" else ""))
            continue
        low, high = min(held, key=lambda c: c.count), max(held, key=lambda c: c.count)
        total = sum(c.count for c in held)
        sizes = f"{low.count} to {high.count} a class, fewest in {low.name}" if low.count < high.count else (
            f"{low.count} a class")  # fmt: skip
        few = low.count < 2
        ways = (
            "no task: a class needs at least 2 images" if few
            else f"up to {len(held)} ways" if len(held) > 1 else "no task: 2 classes at least"
        )  # fmt: skip
        classes = "1 class" if len(held) == 1 else f"{len(held)} classes"
        lines.append(f"{split}: {classes}, {total} images{store.beside_official(split)}, {sizes}: {ways}")
    return lines


def _commands(store: ImageStore, source: Path | None, where: list[Path | str], chosen: Sequence[str]) -> list[str]:
    of_split = {split: store.of_split(split) for split in SPLITS}
    train, val, test = (len(of_split[split]) for split in SPLITS)
    name = store.path.name
    again = [
        "fsl",
        "data",
        "prepare",
        store.index.get("prepared_as", name),
        "--source",
        source or "PATH",
        *chosen,
        *where,
    ]
    if any(c.count < 2 for c in store.classes):
        return ["a task takes at least 2 images of a class: add images, or remove such classes, and prepare it again"]
    if train > 1 and test > 1:
        skip_val = ["--set", "val_tasks=0"] if val == 1 else []
        ways = min(WAYS, train, test, *([val] if val > 1 else []))
        env, used = name, [c for split in SPLITS for c in of_split[split]]
    elif test > 1:
        ways, skip_val, used = min(WAYS, test), [], of_split["test"]
        real = [other for other in ("mini", "cub") if other in prepared_names(store.path.parent) and other != name]
        env = f"{real[0] if real else 'glyphs'}->{name}"
        skip_val += [] if real else ["--set", f"env.size={store.images.shape[1]}"]
    elif len(store.classes) > 1 and "official" not in store.index:
        lines = [f"these splits have no tasks to {'test on' if test < 2 else 'train on'}"]
        if len(store.classes) >= 4:
            ratio = RATIO if len(store.classes) >= 8 else "50/0/50"  # the least with two test classes
            lines.append(f"to split the classes anew: {command(*again, '--split', ratio)}")
        return [*lines, f"to make all of them the target of another data set: {command(*again, '--split', 'test')}"]
    else:
        return ["to have tasks to test on, get at least 2 classes of test"]
    queries = min(QUERIES, min(c.count for c in used) - 1)
    options = [
        *(["--n-way", str(ways)] if ways < WAYS else []),
        *(["--n-query", str(queries)] if queries < QUERIES else []),
    ]
    try_ = command("fsl", "run", "--env", env, "--agent", "turtle", *options, "--preset", "quick", *skip_val, *where)
    lines = [f"try: {try_}"]
    if 1 < ways < WAYS and "official" not in store.index:
        see = "" if train == val == 0 else ", or see --split"
        lines.append(f"{WAYS}-way tasks need {WAYS} classes in every split that has some: add classes{see}")
    return lines
