"""fsl data prepare --size: images of another size, in the name, the fingerprint and what is printed."""

import re

import numpy as np
import pytest
from PIL import Image

from fewshot_env.data.source import PrepareOptions
from fewshot_env.errors import FewShotError
from fewshot_env.images import ImageSampler
from fewshot_env.pair import EnvPair
from fewshot_env.prepare import prepare
from tests.helpers.cli import main
from tests.helpers.images import write_cub, write_mini


@pytest.fixture
def cub(tmp_path):
    return write_cub(tmp_path / "cub", n_classes=8)


@pytest.mark.parametrize("size", [16, 128])
def test_images_have_the_size_and_its_name(cub, tmp_path, size):
    store = prepare("cub", cub, tmp_path / "s", options=PrepareOptions(size=size))
    assert (store.name, store.path.name) == (f"cub-{size}", f"cub-{size}")
    assert store.images.shape[1:] == (size, size, 3)
    usual = prepare("cub", cub, tmp_path / "s")
    assert usual.path.name == "cub"
    assert usual.images.shape[1:] == (84, 84, 3)
    settings = {"n_way": 2, "n_query": 2}
    one, other = (ImageSampler(s, **settings) for s in (store, usual))
    assert one.spec.in_shape == (3, size, size)
    assert one.fingerprint != other.fingerprint
    assert f"cub-{size} " in one.fingerprint
    name, first = store.classes[0].name, store.index["files"][0]
    with Image.open(next(cub.rglob(f"{name}/{first}"))) as image:
        expected = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    assert np.array_equal(store.images[0], np.asarray(expected))


def test_pickles_of_pixels_are_resized_too(tmp_path):
    small = prepare("mini", write_mini(tmp_path / "m", n_images=2), tmp_path / "s", options=PrepareOptions(size=32))
    assert small.images.shape == (40, 32, 32, 3)


def test_it_is_an_environment_and_the_printed_commands_name_it(cub, tmp_path, capsys):
    folder = tmp_path / "s"
    assert main("data", "prepare", "cub", "--source", cub, "--size", "32", "--data-dir", folder) == 0
    assert "fsl run --env cub-32 --agent turtle" in capsys.readouterr().out
    words = ["--n-way", "2", "--n-query", "2", "--set", "agent.padding=1", "--set", "agent.filters=2", "--set",
             "agent.inner_steps=1", "--tasks", "2", "--set", "test_tasks=2", "--set", "val_tasks=0"]  # fmt: skip
    assert main("run", "--env", "cub-32", "--agent", "maml", *words, "--data-dir", folder, "--log-dir", tmp_path) == 0
    assert "test on cub-32: accuracy" in capsys.readouterr().out
    assert main("data", "list", "--data-dir", folder) == 0
    assert re.search(r"^  cub-32 +train 4 classes", capsys.readouterr().out, re.MULTILINE)


def test_own_images_too_and_damage_names_the_command(tmp_path, capsys):
    for i in range(6):
        (tmp_path / f"birds/c{i}").mkdir(parents=True)
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / f"birds/c{i}/a.png")
    options = PrepareOptions(split="test", size=48)
    store = prepare("birds", tmp_path / "birds", tmp_path / "s", options=options)
    assert store.path.name == "birds-48"
    (store.path / "images.npy").write_bytes(b"")
    assert main("data", "check", "birds-48", "--data-dir", tmp_path / "s") == 2
    assert "fsl data prepare birds --source PATH --size 48 --data-dir" in capsys.readouterr().err


def test_pairs_of_other_sizes_name_the_command_that_makes_them_equal(cub, tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "data"
    stores = [prepare("cub", cub, folder, options=PrepareOptions(size=size)) for size in (84, 128)]
    pair = EnvPair.parse("cub->cub-128")
    with pytest.raises(FewShotError, match="make them equal, for example: fsl data prepare cub --source PATH --size 1"):
        pair.check(*(ImageSampler(s, n_way=2, n_query=2).spec for s in stores))
    with pytest.raises(FewShotError, match=r"cub is not prepared at 99x99 .*; run: fsl data prepare cub --source PATH"):
        EnvPair.parse("cub-99")


@pytest.mark.parametrize("size", [0, 15, 513, -84])
def test_impossible_sizes_are_refused(cub, tmp_path, size, capsys):
    words = ["--source", cub, f"--size={size}", "--data-dir", tmp_path / "s"]
    assert main("data", "prepare", "cub", *words) == 2
    assert capsys.readouterr().err == f"fsl: --size is {size}, but must lie in 16 to 512 pixels\n"
    assert not (tmp_path / "s").exists()
