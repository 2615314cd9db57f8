"""Names of environments and pairs of them."""

from dataclasses import replace

import gymnasium
import pytest

from fewshot_env import registry
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.pair import EnvPair


@pytest.mark.parametrize(
    "text", ["mini->cub", "mini→cub", "mini:cub", " mini -> cub ", "FewShot/MiniImageNet-v0->FewShot/CUB-v0"]
)
def test_pairs(text):
    pair = EnvPair.parse(text)
    assert (pair.source.name, pair.target.name, str(pair), pair.slug) == ("mini", "cub", "mini->cub", "mini-to-cub")


def test_single_names():
    assert str(EnvPair.parse("sine")) == "sine"


@pytest.mark.parametrize("text", ["", "mini->", "->cub", "mini->cub->sine", ":"])
def test_no_pair(text):
    with pytest.raises(FewShotError, match="must be NAME or 'SOURCE->TARGET'"):
        EnvPair.parse(text)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(
        FewShotError, match=r"unknown environment 'minni' \(did you mean 'mini'\?\); known: sine, mini, cub, omniglot"
    ):
        EnvPair.parse("minni->cub")


def test_different_spaces_are_reported():
    images = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
    sine = TaskSpec("regression", (1,), 1, 1, (-5, 5), (-10, 10))
    pair = EnvPair.parse("mini->sine")
    with pytest.raises(
        FewShotError, match="classification of inputs 3x84x84 with 5 outputs, sine has regression of inputs 1"
    ):
        pair.check(images, sine)
    pair.check(images, TaskSpec("classification", (3, 84, 84), 5, 100, (0, 1), (0, 4)))


def test_a_custom_environment(tmp_path, monkeypatch):
    (tmp_path / "own_env.py").write_text(
        "import fewshot_env\n"
        "from fewshot_env.sine import SineSampler\n"
        "fewshot_env.register(fewshot_env.EnvEntry('wide', 'FewShot/Wide-v0', 'own_env:Wide', 'wide sines'))\n"
        "class Wide(SineSampler):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert EnvPair.parse("own_env:FewShot/Wide-v0").source.name == "wide"
    assert EnvPair.parse("wide->sine").target.name == "sine"
    obs, _ = gymnasium.make("FewShot/Wide-v0", n_shot=2).reset(seed=1)
    assert obs["support_x"].shape == (2, 1)
    registry.register(registry.ENVS["wide"])  # the same again, as in a notebook
    with pytest.raises(FewShotError, match="already registered"):
        registry.register(replace(registry.ENVS["wide"], summary="another"))
    with pytest.raises(FewShotError, match="cannot be imported"):
        EnvPair.parse("no_such_module:FewShot/Wide-v0")
