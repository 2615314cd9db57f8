"""The layout of Omniglot: images_background/ and images_evaluation/ with alphabets, characters and 20 drawings each."""

from __future__ import annotations

from pathlib import Path

from fewshot_env.data.source import Layout, PrepareOptions, SourceImage, folders_in, images_in
from fewshot_env.data.splits import split_list

PARTS = ("images_background", "images_evaluation")


def read_omniglot(root: Path, _: PrepareOptions) -> list[SourceImage]:
    """Read every drawing; the class is "Alphabet/character", and alphabets are split as in Meta-Dataset."""
    images = []
    for alphabet in (a for part in PARTS if (root / part).is_dir() for a in folders_in(root / part)):
        split = split_list("omniglot").find_split(alphabet.name, str(alphabet.parent))
        for character in folders_in(alphabet):
            class_name = f"{alphabet.name}/{character.name}"
            images += [SourceImage(file.name, class_name, split, file) for file in images_in(character)]
    return images


LAYOUTS = (
    Layout(
        "images_background and images_evaluation as zip files or folders (torchvision's omniglot-py/ too)",
        lambda root: any((root / part).is_dir() for part in PARTS),
        read_omniglot,
    ),
)
