"""Settings and names as hypothesis writes them: they are read, or refused in one printable line."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_env.errors import FewShotError
from fewshot_env.pair import EnvPair
from runners.config.plan import make_plan
from runners.config.settings import read_file, read_pairs

SINE = {"env": "sine", "agent": "maml"}
KEYS = st.sampled_from(
    ["seed", "train_tasks", "device", "threads", "on_nan", "env.n_shot", "env.noise", "env.amplitude", "env.x_range",
     "env.harmonics", "agent.inner_lr", "agent.hidden", "agent.inner_clip", "agent.first_order", "agent.meta_batch"]
)  # fmt: skip
ODD = st.sampled_from(
    ["2001-99-99", "0b", "0x", "1:99", "[" * 3000, "{a: " * 900, "&a [*a]", "!!python/name:os.system", ".nan", "1e999",
     "9" * 5000, "\u202e", "\ud800", "null", "? ", "- - -", "!!binary x", "!!timestamp 1"]
)  # fmt: skip
TEXT = st.one_of(
    st.text(max_size=30), ODD, st.integers().map(str), st.floats().map(str), st.lists(st.floats()).map(str)
)


def as_file(lines):
    return "\n".join(lines).encode(errors="surrogatepass")


def read_or_refused(act):
    """Do it; a refusal is one printable line."""
    said = "read"
    try:
        act()
    except FewShotError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 10_000


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KEYS, TEXT).map("=".join) | TEXT, max_size=3))
def test_any_set(pairs):
    read_or_refused(lambda: make_plan(SINE | read_pairs(pairs)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), st.lists(st.tuples(KEYS, TEXT).map(": ".join)).map(as_file)))
def test_any_file(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    read_or_refused(lambda: make_plan(read_file(tmp_path / "c.yaml") | SINE))


NAMES = st.sampled_from(["mini", "sine", "cub", "->", "\u2192", ":", "/", "FewShot/Sine-v0", " ", "no_such_module"])


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES | st.text(max_size=4), max_size=5).map("".join))
def test_any_environment(text):
    read_or_refused(lambda: EnvPair.parse(text))


@pytest.mark.parametrize(
    "code", ["raise RuntimeError('no')", "1/0", "def (", "import no_such", "x", "raise KeyError", "\x00"]
)
@pytest.mark.parametrize("what", ["env", "agent"])
def test_a_custom_module_that_fails(code, what, tmp_path, monkeypatch):
    name = f"broken{abs(hash((code, what)))}"
    (tmp_path / f"{name}.py").write_text(code + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    where = f"{name}:FewShot/Own-v0" if what == "env" else f"{name}:Own"
    with pytest.raises(FewShotError, match=r"cannot be imported: [A-Z]"):
        make_plan(SINE | {what: where})
