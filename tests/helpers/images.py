"""Small image data sets in the original layouts, and other forms of them."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot_env.data.splits import split_list
from fewshot_env.rng import SPLITS


def write_image(file: Path, seed: int, hue: float, mode: str = "RGB") -> None:
    """A noisy image whose colour tells its class."""
    rng = np.random.default_rng(seed)
    base = np.array([hue, 1 - hue, (hue * 7) % 1]) * 200
    pixels = np.clip(base + rng.normal(0, 40, (30, 40, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.convert(mode).save(file, quality=90)


def write_mini(folder: Path, n_images: int = 8) -> Path:
    """A small miniImageNet in the original layout: 8 / 6 / 6 official classes."""
    split_of = split_list("mini").split_of
    (folder / "images").mkdir(parents=True)
    for part, (split, n) in enumerate((("train", 8), ("val", 6), ("test", 6))):
        rows = ["filename,label"]
        for c, wnid in enumerate([w for w, s in split_of.items() if s == split][:n]):
            for i in range(n_images):
                file = f"{wnid}{i:08d}.jpg"
                write_image(folder / "images" / file, 10_000 * part + 1000 * c + i, c / n)
                rows.append(f"{file},{wnid}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_cub(folder: Path, n_classes: int = 24) -> Path:
    """A small CUB in the original layout: uneven classes, one gray-scale image; 12 / 6 / 6 classes."""
    lines, boxes, number = [], [], 0
    for c, name in enumerate(sorted(split_list("cub").split_of)[:n_classes], start=1):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(7 + c % 3):
            number += 1
            write_image(
                folder / "images" / name / f"b{i}.jpg", 77 * c + i, c / n_classes, "L" if number == 3 else "RGB"
            )
            lines.append(f"{number} {name}/b{i}.jpg")
            boxes.append(f"{number} 10.0 5.0 20.0 {10.0 + i}")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")
    return folder


def write_omniglot(folder: Path, n_characters: int = 2) -> Path:
    """A small Omniglot in the original layout, one-bit drawings: 4 alphabets of each split, 5 drawings a character."""
    split_of = split_list("omniglot").split_of
    for split in ("train", "val", "test"):
        part = folder / ("images_evaluation" if split == "test" else "images_background")
        for a, alphabet in enumerate([a for a, s in split_of.items() if s == split][:4]):
            for c in range(1, n_characters + 1):
                place = part / alphabet / f"character{c:02d}"
                place.mkdir(parents=True)
                for i in range(1, 6):
                    strokes = np.random.default_rng([a, c, i]).random((105, 105)) < 0.9
                    Image.fromarray(strokes).save(place / f"{a}{c:03d}_{i:02d}.png")
    return folder


def as_folders(source, target):
    for split in SPLITS:
        for line in (source / f"{split}.csv").read_text().splitlines()[1:]:
            file, wnid = line.split(",")
            (target / split / wnid).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / "images" / file, target / split / wnid / file)
    return target


def packed(folder, archive, top=""):
    """Pack what is in `folder`, below `top`, into an archive of the kind that its name tells."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    names = [top + str(f.relative_to(folder)) for f in files]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as out:
            for file, name in zip(files, names, strict=True):
                out.write(file, name)
    else:
        with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as out:
            for file, name in zip(files, names, strict=True):
                out.add(file, name)
    return archive


def assert_same_images(one, other):
    assert other.index["sha256"] == one.index["sha256"]
    assert other.classes == one.classes
    assert other.index["files"] == one.index["files"]
