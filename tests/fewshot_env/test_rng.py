"""Task seeds and the numbers drawn from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_env.errors import FewShotError
from fewshot_env.rng import draw_distinct, random_bits, task_seeds, uniforms


def splitmix64(state):
    """SplitMix64 as published, in Python integers: the next state and output."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return state, z ^ (z >> 31)


def test_equals_splitmix64_written_with_python_integers():
    # output number 0 of SplitMix64(0) is the published 0xE220A8397B1DCDAF
    assert splitmix64(0)[1] == 0xE220A8397B1DCDAF
    z = 7 ^ 0x9E3779B97F4A7C15  # our key 7: the stream starts at the mixed key
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    state = z ^ (z >> 31)
    expected = []
    for _ in range(5):
        state, out = splitmix64(state)
        expected.append(out)
    assert random_bits([7], 0, 5)[0].tolist() == expected


def test_frozen_values_never_change():
    assert task_seeds(2022, "test", 0, 3) == [1944449299089080987, 6566493055786212418, 7320733883775751955]


@given(st.integers(0, 2**63 - 1), st.sampled_from(["train", "val", "test"]), st.integers(0, 10**9), st.integers(1, 50))
def test_task_i_does_not_depend_on_how_tasks_are_asked_for(seed, split, start, count):
    whole = task_seeds(seed, split, start, count)
    assert whole == [task_seeds(seed, split, start + i, 1)[0] for i in range(count)]
    assert all(0 <= s < 2**63 for s in whole)
    assert len(set(whole)) == count


def test_splits_and_seeds_differ():
    streams = [task_seeds(seed, split, 0, 1000) for seed in range(5) for split in ("train", "val", "test")]
    assert len(set().union(*streams)) == 15_000


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range(seed):
    with pytest.raises(FewShotError, match="must lie in"):
        task_seeds(seed, "train", 0, 1)


def test_uniforms_are_uniform_and_independent_between_rows():
    u = uniforms(range(1000), 64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12) ** 0.5 / 64_000**0.5
    counts = np.histogram(u, 20, (0, 1))[0]
    chi2 = ((counts - 3200) ** 2 / 3200).sum()
    assert chi2 < 50  # 19 degrees of freedom: p < 1e-4
    correlation = np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]
    assert abs(correlation) < 5 / 63_000**0.5
    assert (uniforms([5, 900], 64) == u[[5, 900]]).all()


@given(st.lists(st.integers(4, 30), min_size=1, max_size=5), st.integers(0, 2**62))
def test_draw_distinct(sizes, seed):
    u = np.random.default_rng(seed).random((len(sizes), 4))
    drawn = draw_distinct(u, np.array(sizes))
    for row, size in zip(drawn, sizes, strict=True):
        assert len(set(row)) == 4
        assert set(row) <= set(range(size))


def test_draw_distinct_is_uniform_over_ordered_pairs():
    drawn = draw_distinct(uniforms(range(20_000), 2), np.full(20_000, 4))
    counts = np.unique(drawn @ [10, 1], return_counts=True)[1]
    assert len(counts) == 12
    assert ((counts - 20_000 / 12) ** 2 / (20_000 / 12)).sum() < 40  # 11 degrees of freedom: p < 1e-4
