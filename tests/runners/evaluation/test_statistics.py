"""Intervals over seeds, against tables of Student's t and an example of Welch's test by hand."""

import math

import pytest

from runners.evaluation.statistics import half_width, over_seeds, seeds_in_words, t_quantile, welch_half_width


@pytest.mark.parametrize(
    ("freedom", "known"), [(1, 12.706205), (2, 4.302653), (4, 2.776445), (9, 2.262157), (30, 2.042272), (1e9, 1.959964)]
)
def test_quantiles_are_those_of_the_tables(freedom, known):
    assert t_quantile(freedom) == pytest.approx(known, abs=1e-6)


def test_the_interval_of_three_seeds_by_hand():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert half_width([2.0]) is None
    assert half_width([]) is None


def test_the_interval_of_a_difference_by_hand():
    a, b = [1.0, 2.0, 3.0], [10.0, 14.0]  # variances of the means 1/3 and 4
    freedom = (1 / 3 + 4) ** 2 / ((1 / 3) ** 2 / 2 + 4**2 / 1)  # 1.169550
    assert freedom == pytest.approx(1.169550, abs=1e-6)
    assert welch_half_width(a, b) == pytest.approx(9.082776 * math.sqrt(13 / 3), rel=1e-6)
    assert welch_half_width(b, a) == welch_half_width(a, b)
    equal = [1.0, 3.0, 5.0]  # equal variances and counts: 2 (n - 1) degrees of freedom
    assert welch_half_width(equal, equal) == pytest.approx(2.776445 * math.sqrt(8 / 3), abs=1e-6)
    assert welch_half_width([1.0, 1.0], [2.0, 2.0]) == 0
    assert welch_half_width([0, 1e100], [0, 1.0]) > 1e100  # no overflow
    assert math.isnan(welch_half_width([1.0, math.nan], [2.0, 3.0]))


def test_seeds_as_one_result():
    results = [{"metric": "mse", "mean": mean, "diverged": 1} for mean in (1.0, 2.0, 3.0, None)]
    summary = over_seeds(results)
    assert (summary["mean"], summary["lowest"], summary["highest"], summary["seeds"]) == (2.0, 1.0, 3.0, 3)
    assert summary["diverged"] == 4
    assert seeds_in_words(summary, 4) == (
        "mse 2.000 ± 2.484 (95 % interval over 3 seeds, Student's t), from 1.000 to 3.000, 4 tasks diverged"
    )
