"""CUB-200-2011 as its own folder: images.txt, images/NNN.Name/, and bounding_boxes.txt for crops."""

from __future__ import annotations

from pathlib import Path

from fewshot_env.data.source import Layout, SourceImage, Wish, read_text
from fewshot_env.data.splits import split_list
from fewshot_env.errors import FewShotError

Box = tuple[float, float, float, float]


def read_cub(root: Path, wish: Wish) -> list[SourceImage]:
    """Every image of images.txt, split by a shipped list (Chen et al. 2019, or Meta-Dataset's)."""
    splits = split_list(wish.split or "cub")
    boxes = _boxes(root / "bounding_boxes.txt") if wish.crop else {}
    table = root / "images.txt"
    found = []
    for line in read_text(table).splitlines():
        number, _, file = line.strip().partition(" ")
        class_name, _, name = file.partition("/")
        if not class_name[:3].isdigit() or not name or Path(name).name != name:
            raise FewShotError(f"{table}: expected lines '1 001.Name/file.jpg', found {line[:60]!r}")
        if wish.crop and number not in boxes:
            raise FewShotError(
                f"{root / 'bounding_boxes.txt'} has no box of image {number}; expected one for each image"
            )
        if name not in splits.dropped:
            place = root / "images" / class_name / name
            found.append(SourceImage(name, class_name, splits.of(class_name, str(table)), place, boxes.get(number)))
    return found


def _boxes(table: Path) -> dict[str, Box]:
    """Boxes (left, top, right, bottom) in pixels by image number, from lines "1 left top width height"."""
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
