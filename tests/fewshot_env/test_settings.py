"""Wrong settings, and stored files that do not match, are one line in our words, whatever model they belong to."""

import json
from pathlib import Path
from typing import Annotated, Literal

import gymnasium
import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

import agents
from fewshot_env.env import FewShotEnv
from fewshot_env.errors import FewShotError, SettingError
from fewshot_env.images import ImageSampler
from fewshot_env.registry import ENVS, find
from fewshot_env.sampler import TaskConfig, sampler_class
from fewshot_env.settings import SettingsModel, fit, validate
from fewshot_env.sine import SineSampler
from fewshot_env.store import ImageStore, _Index
from fewshot_env.worlds.sampler import Glyphs
from runners.config.plan import RunConfig
from runners.reproduce.machinery import earlier, summary
from runners.storage import schemas
from runners.storage.checkpoint import RunProgress

PYDANTIC = (
    "Input should", "alidation error", "pydantic", "type=", "For further information", "Field required", "Value error",
    "unable to parse", "Extra inputs", "should have at", "instance of", "\n",
)  # fmt: skip
HOLDS = (
    "x", "", "nan", "5-3", "a\nb", -1, 0, 0.5, 10**30, 10**5000, 1e99, float("nan"), float("-inf"), True, None, [],
    [1, "x"], [[]], [1, 2, 3], (3, 1), {}, {"a": 1}, b"\xff", object(), int, lambda: 0,
)  # fmt: skip


def below(model):
    """The models that are derived from this one, at any depth."""
    return {sub for direct in model.__subclasses__() for sub in (direct, *below(direct))}


def configs():
    """The settings of every agent and sampler, of a mixture, and of a run."""
    for spec in agents.AGENTS.values():
        yield spec.load().Config
    for name in [*ENVS, "sine+glyphs", "mini+textures"]:
        yield sampler_class(find(name).sampler).Config
    yield RunConfig


CONFIGS = list(dict.fromkeys(configs()))
RECORDS = [*sorted(below(schemas.Record), key=str), _Index, RunProgress]
GIVEN = {RunConfig: {"env": "sine", "agent": "maml"}}


def refusal(build):
    """The error that says why something cannot be built; None where it can."""
    try:
        build()
    except ValueError as error:
        return error
    return None


def in_our_words(message, key):
    assert key in message
    assert len(message) < 2000
    assert [words for words in PYDANTIC if words in message] == [], message


def test_every_model_of_settings_is_among_them():
    packages, mixtures = ("fewshot_env", "agents", "runners"), "fewshot_env.mixture"  # other tests make mixtures
    found = {model for model in below(SettingsModel) if model.__module__.split(".")[0] in packages}
    missed = found - {base for config in CONFIGS for base in config.__mro__}
    assert {model for model in missed if model.__module__ != mixtures} == set()
    assert {earlier.ReportRecord, summary.CountedRun, schemas.RunResult} <= set(RECORDS)


@pytest.mark.parametrize(
    ("model", "field"), [(model, field) for model in CONFIGS for field in model.model_fields], ids=str
)
def test_a_wrong_value_of_any_setting(model, field):
    given, refused = GIVEN.get(model, {}), 0
    for value in HOLDS:
        settings = given | {field: value}
        if (error := refusal(lambda: model(**settings))) is None:  # noqa: B023
            continue
        refused += 1
        in_our_words(str(error), f"setting {field}")
        assert error.key.partition(".")[0] == field
        with pytest.raises(SettingError) as prefixed:
            validate(model, settings, "agent.")
        assert str(prefixed.value) == str(error).replace(f"setting {field}", f"setting agent.{field}", 1)
        assert prefixed.value.key == f"agent.{error.key}"
    assert refused


@pytest.mark.parametrize("model", CONFIGS, ids=str)
def test_a_wrong_key_of_any_model(model):
    for field in model.model_fields:
        wrong = f"{field}x"
        for build in (lambda key: model(**GIVEN.get(model, {}), **{key: 1}), lambda key: validate(model, {key: 1})):
            with pytest.raises(SettingError) as error:
                build(wrong)
            in_our_words(str(error.value), f"unknown setting {wrong!r} (did you mean {field!r}?); known: ")
            assert error.value.key == wrong


@pytest.mark.parametrize(("model", "field"), [(m, f) for m in RECORDS for f in m.model_fields], ids=str)
def test_a_wrong_value_in_a_stored_file(model, field):
    for value in HOLDS:
        if (error := refusal(lambda: fit(model, {field: value}))) is not None:  # noqa: B023
            in_our_words(str(error), "")
            assert not str(error).startswith(": ")


@pytest.mark.parametrize("content", [None, 3, [], "x", {}])
def test_a_stored_file_of_another_form(content):
    with pytest.raises(ValueError, match=r"^(it must be a mapping|name: it is missing)$"):
        fit(_Index, content)


class Kinds(SettingsModel):
    """A plug-in's settings of many types."""

    whole: int = Field(1, ge=1)
    even: int = Field(2, multiple_of=2)
    bounded: int = Field(2, ge=1, lt=9)
    rate: float = Field(0.1, gt=0)
    share: float = Field(0.1, gt=0, le=1)
    finite: float = Field(0.1, allow_inf_nan=False)
    flag: bool = True
    choice: Literal["fp32", "bf16"] = "fp32"
    only: Literal["a"] = "a"
    text: str = Field("aa", min_length=2, max_length=4)
    word: str = Field("a", pattern="^a+$")
    maybe: float | None = Field(None, ge=0)
    several: int | list[float] = 1
    pair: tuple[int, str] = (1, "a")
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((1,), min_length=1, max_length=3)
    table: dict[str, int] = {}
    path: Path = Path()


@pytest.mark.parametrize(
    ("key", "value", "where", "wrong"),
    [
        ("whole", "x", "whole is 'x'", "it must be a whole number of at least 1"),
        ("whole", 1.5, "whole is 1.5", "it must be a whole number of at least 1"),
        ("even", 3, "even is 3", "it must be a whole number, a multiple of 2"),
        ("bounded", 9, "bounded is 9", "it must be a whole number of at least 1 and below 9"),
        ("rate", 0, "rate is 0", "it must be a number above 0"),
        ("share", 2, "share is 2", "it must be a number above 0 and of at most 1"),
        ("finite", float("inf"), "finite is inf", "it must be a finite number"),
        ("flag", "maybe", "flag is 'maybe'", "it must be true or false"),
        ("choice", "bf61", "choice is 'bf61'", "it must be one of 'fp32', 'bf16' (did you mean 'bf16'?)"),
        ("only", 3, "only is 3", "it must be 'a'"),
        ("text", "a", "text is 'a'", "it must be text of 2 to 4 characters"),
        ("word", "b", "word is 'b'", "it must be text that matches '^a+$'"),
        ("maybe", -1, "maybe is -1", "it must be a number of at least 0, or null"),
        ("several", "x", "several is 'x'", "it must be a whole number, or a list of values, each a number"),
        ("several", [1, "x"], "several is [1, 'x']", "it must be a whole number, or a list of values, each a number"),
        ("pair", [1], "pair is [1]", "it must be a list of 2 values"),
        ("pair", ["x", "a"], "pair.0 is 'x'", "it must be a whole number"),
        ("sizes", [], "sizes is []", "it must be a list of 1 to 3 values, each a whole number of at least 1"),
        ("sizes", [0], "sizes.0 is 0", "it must be a whole number of at least 1"),
        ("table", 3, "table is 3", "it must be a mapping"),
        ("table", {"a": "x"}, "table.a is 'x'", "it must be a whole number"),
        ("path", 3, "path is 3", "it must be text"),
    ],
)  # fmt: skip
def test_what_is_expected_is_said_in_plain_words(key, value, where, wrong):
    with pytest.raises(SettingError) as error:
        Kinds(**{key: value})
    assert str(error.value) == f"setting {where}, but: {wrong}"


class Special:
    """A type without a JSON schema."""


class Checked(TaskConfig):
    """A plug-in's settings with validators, one of which fails."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    special: Special = Special()
    number: int = 1
    other: int = 1
    broken: int = 1

    @field_validator("number")
    @classmethod
    def _refuse(cls, number):
        raise ValueError("not with me")

    @field_validator("other")
    @classmethod
    def _refuse_in_pydantics_way(cls, other):
        raise PydanticCustomError("own", "not with {who}", {"who": "us"})

    @field_validator("broken")
    @classmethod
    def _fail(cls, broken):
        raise KeyError("no such thing")

    @model_validator(mode="after")
    def _together(self):
        if self.split == "test":
            raise ValueError("not at the test")
        return self


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"special": 3}, "setting env.special is 3, but: its type or its value is wrong"),
        ({"number": 3}, "setting env.number is 3, but: not with me"),
        ({"other": 3}, "setting env.other is 3, but: not with us"),
        ({"minibatch": "x"}, "setting env.minibatch is 'x', but: it must be a whole number"),
        ({"split": "test"}, "these settings of Checked do not go together: not at the test"),
        (
            {"broken": 3},
            "the settings of Checked cannot be checked: KeyError: 'no such thing' (test_settings.py, line ",
        ),
    ],
)
def test_settings_of_a_plug_in(settings, message):
    with pytest.raises(FewShotError) as error:
        validate(Checked, settings, "env.")
    assert str(error.value).startswith(message)
    in_our_words(str(error.value), "")


def test_a_missing_setting_and_one_of_another_part():
    with pytest.raises(SettingError, match=r"^setting agent is missing$"):
        RunConfig(env="sine")
    with pytest.raises(SettingError, match=r"^unknown setting 'inner_lr' \(did you mean 'agent.inner_lr'\?\); known: "):
        validate(RunConfig, {"inner_lr": 0.1}, elsewhere=["agent.inner_lr"])


def test_a_long_value_is_cut():
    with pytest.raises(SettingError) as error:
        SineSampler(n_query="x" * 10_000)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda store: ImageSampler(store, n_wayy=3), "unknown setting 'n_wayy' (did you mean 'n_way'?)"),
        (lambda store: ImageSampler(store, n_way="x"), "setting n_way is 'x', but: it must be a whole number from 2"),
        (lambda store: SineSampler(n_shot="x"), "setting n_shot is 'x', but: it must be a whole number from 1"),
        (lambda store: SineSampler(ways=5), "unknown setting 'ways'; known: split, "),
        (lambda store: Glyphs(size="big"), "setting size is 'big', but: it must be a whole number from 16 to 256"),
        (
            lambda store: sampler_class(find("glyphs+textures").sampler)(n_wayy=3),
            "unknown setting 'n_wayy' (did you mean 'n_way'?)",
        ),
        (lambda store: sampler_class(find("mini").sampler)(n_wayy=3), "unknown setting 'n_wayy' (did you mean 'n_way'"),
    ],
)  # fmt: skip
def test_samplers_built_from_python(build, message, small_store):
    with pytest.raises(SettingError) as error:
        build(small_store)
    assert str(error.value).startswith(message)
    in_our_words(str(error.value), "")


@pytest.mark.parametrize("settings", [{"n_shoot": 3}, {"n_shot": 0}, {"noise": "loud"}, {"splitt": "val"}])
@pytest.mark.parametrize(
    "make",
    [
        lambda **settings: gymnasium.make("FewShot/Sine-v0", **settings),
        lambda **settings: gymnasium.make_vec("FewShot/Sine-v0", num_envs=2, **settings),
        lambda **settings: gymnasium.make_vec(
            "FewShot/Sine-v0", num_envs=2, vectorization_mode="vector_entry_point", **settings
        ),
        lambda **settings: gymnasium.make_vec("FewShot/Sine-v0", num_envs=2, vectorization_mode="sync", **settings),
    ],
    ids=["make", "make_vec", "vector_entry_point", "sync"],
)
def test_environments_made_from_python(make, settings):
    (key,) = settings
    with pytest.raises(SettingError) as error:
        make(**settings)
    in_our_words(str(error.value), f"setting {key!r}" if "unknown" in str(error.value) else f"setting {key} is")


def test_a_sampler_that_cannot_be_built_is_one_line():
    class Fails(SineSampler):
        def __init__(self, **settings):
            raise KeyError("no such thing")

    with pytest.raises(
        FewShotError, match=r"^the sampler .*Fails cannot be built: KeyError: 'no such thing' \(test_sett"
    ):
        FewShotEnv(Fails)


def test_an_index_that_does_not_match(tmp_path):
    ours = {"format": "fewshot-store", "version": 1}
    for index, wrong in (
        ([], "(it has another format); prepare it again: fsl data prepare "),
        ({}, "(it has another format); prepare it again: fsl data prepare "),
        (ours, "(name: it is missing); prepare it again: fsl data prepare "),
        (ours | {"name": "a", "sha256": 3, "classes": []}, "(sha256: it must be text); prepare it again: "),
    ):
        (tmp_path / "index.json").write_text(json.dumps(index))
        np.save(tmp_path / "images.npy", np.zeros((1, 2, 2, 3), np.uint8))
        with pytest.raises(FewShotError) as error:
            ImageStore.open(tmp_path)
        in_our_words(str(error.value), wrong)


def test_a_plain_pydantic_model_is_checked_alike():
    class Plain(BaseModel):
        model_config = ConfigDict(extra="forbid")
        number: int = 1

    with pytest.raises(SettingError, match=r"^setting number is 'x', but: it must be a whole number$"):
        validate(Plain, {"number": "x"})
