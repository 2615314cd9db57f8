"""Data sets of installed packages, with the one of docs/new-environment.md: prepare, list, check and sample them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.images import write_image

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "new-environment.md").read_text()
(FLOWERS,) = re.findall(r"```python\n(from fewshot_env.data.source.*?)```", PAGE, re.DOTALL)
OTHERS = """
from fewshot_env.data.folders import LAYOUTS
TAKEN = Dataset("mini", "x", "x", LAYOUTS)
UNLISTED = Dataset("unlisted", "x", "x", LAYOUTS, splits={"a": "flowers_data:none.json"})
SHAPELESS = Dataset("shapeless", "x", "x", ())
TYPED = "typed"
"""
SPLIT = """{"title": "Flora", "official": {"train": [2, 6], "val": [2, 6], "test": [2, 6]},
 "classes": {"train": ["f0", "f1"], "val": ["f2", "f3"], "test": ["f4", "f5"]}}"""
BROKEN = {
    "taken": ("TAKEN", "the data set 'mini' is already registered"),
    "typed": ("TYPED", "flowers_data:TYPED is not a fewshot_env.datasets.Dataset, but str"),
    "unlisted": ("UNLISTED", "the list of classes 'flowers_data:none.json' cannot be read"),
    "shapeless": ("SHAPELESS", "the data set 'shapeless' has no layouts"),
    "absent": ("NOTHING", "AttributeError: module 'flowers_data' has no attribute 'NOTHING'"),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with an installed package of one good data set and several broken ones, and the flowers."""
    site = tmp_path_factory.mktemp("site")
    (site / "flowers_data").mkdir()
    (site / "flowers_data" / "__init__.py").write_text(FLOWERS + OTHERS)
    (site / "flowers_data" / "split.json").write_text(SPLIT)
    info = site / "flowers_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flowers-data\nVersion: 1.0\n")
    points = {"flowers": "FLOWERS"} | {name: attribute for name, (attribute, _) in BROKEN.items()}
    lines = [f"{name} = flowers_data:{attribute}" for name, attribute in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[fsl.datasets]", *lines, ""]))
    for c in range(6):
        (site / "source" / "jpg" / f"f{c}").mkdir(parents=True)
        for i in range(3):
            write_image(site / "source" / "jpg" / f"f{c}" / f"{i}.png", 10 * c + i, c / 6)
    return site


def fsl(site, *words):
    """Run fsl where the package is installed."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "FSL_HOME": str(site / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "runners", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_data_set_of_a_package(site):
    listed = fsl(site, "data", "list")
    layout, then = "a folder jpg/ with a folder for each flower", "fsl data prepare flowers --source PATH"
    assert f"flowers not prepared; get {layout}, then: {then}" in " ".join(listed.stdout.split())
    for name, (_, words) in BROKEN.items():
        assert f"fsl: warning: the data set plug-in '{name}' was skipped: {words}" in listed.stderr
    assert len(listed.stderr.splitlines()) == len(BROKEN)
    assert "102 Flowers is ready in" in fsl(site, "data", "prepare", "flowers", "--source", site / "source").stdout
    assert "flowers" in fsl(site, "list").stdout
    assert "as in the Flora list, complete" in fsl(site, "data", "check", "flowers").stdout
    task = "import gymnasium; from fewshot_env.registry import load_plugins; load_plugins(); "
    task += "e = gymnasium.make('FewShot/flowers-v0', n_way=2, n_query=1); print(e.reset(seed=1)[0]['query_x'].shape)"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "FSL_HOME": str(site / "home")}
    done = subprocess.run([sys.executable, "-c", task], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 3, 84, 84)\n"
