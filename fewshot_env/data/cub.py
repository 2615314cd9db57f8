"""The layout of CUB-200-2011: images.txt, images/NNN.Name/, and bounding_boxes.txt for crops."""

from __future__ import annotations

from pathlib import Path

from fewshot_env.data.pixels import Box
from fewshot_env.data.source import Layout, Listing, PrepareOptions, SourceImage, read_text
from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError


def read_cub(root: Path, options: PrepareOptions) -> Listing:
    """Read every image of images.txt, split by a published list (Chen et al. 2019, or Meta-Dataset's)."""
    splits = split_list(options.split or "cub")
    boxes = _boxes(root / "bounding_boxes.txt") if options.crop else {}
    table = root / "images.txt"
    images, dropped = [], {}
    for line in read_text(table).splitlines():
        number, _, file = line.strip().partition(" ")
        class_name, _, name = file.partition("/")
        if not class_name[:3].isdigit() or not name or Path(name).name != name:
            raise FewShotError(f"{table}: expected lines '1 001.Name/file.jpg', found {line[:60]!r}")
        if options.crop and number not in boxes:
            raise FewShotError(
                f"{root / 'bounding_boxes.txt'} has no box for image {number}; expected one for each image"
            )
        place = root / "images" / class_name / name
        if name in splits.dropped:
            dropped[place] = f"left out by the {splits.title} split"
        else:
            split = splits.find_split(class_name, str(table))
            images.append(SourceImage(name, class_name, split, place, boxes.get(number)))
    return Listing(images, dropped)


def _boxes(table: Path) -> dict[str, Box]:
    """Read boxes (left, top, right, bottom) in pixels, by image number, from lines "1 left top width height"."""
    boxes = {}
    for line in read_text(table).splitlines():
        try:
            number, *sides = line.split()
            left, top, width, height = map(float, sides)
        except ValueError as error:
            raise FewShotError(f"{table}: expected lines '1 60.0 27.0 325.0 304.0', found {line[:60]!r}") from error
        boxes[number] = (left, top, left + width, top + height)
    return boxes


LAYOUTS = (
    Layout(
        "the folder CUB_200_2011 with images.txt and images/NNN.Name/",
        lambda root: (root / "images.txt").exists(),
        read_cub,
    ),
)
