"""What `fsl reproduce` computes from runs: the two statistics, the comparison with the paper, the claims."""

import math

import pytest

from runners.evaluation.result import finite
from runners.reproduce.machinery.claims import MissingRuns, decide_each, in_all, in_some, is_close, is_lower
from runners.reproduce.machinery.statistics import (
    Estimate,
    disjoint,
    mean_over_runs,
    mean_without_outliers,
    median_over_runs,
)
from runners.reproduce.machinery.summary import CountedRun, Summary, estimate_as_json
from runners.reproduce.registry import EXPERIMENTS


def test_the_papers_statistic():
    found = median_over_runs([1.0, 2.0, 6.0])
    assert (found.value, found.runs) == (2.0, 3)
    assert found.half == pytest.approx(1.96 * math.sqrt(7) / math.sqrt(3))  # the variance is (4 + 1 + 9) / 2
    assert median_over_runs([1.0]).half is None
    diverged = median_over_runs([1.0, 2.0, math.inf])
    assert (diverged.value, diverged.half) == (2.0, None)


def test_the_published_statistics():
    found = mean_without_outliers([1.0, 2.0, 3.0, 4.0, 100.0])  # quartiles 2 and 4: 100 lies beyond 4 + 1.5 * 2
    assert (found.value, found.runs) == (2.5, 4)
    assert found.half == pytest.approx(1.96 * math.sqrt(5 / 3) / 2)
    assert mean_without_outliers([1.0, math.inf]) == Estimate(1.0, None, 1)
    assert mean_without_outliers([math.inf]).runs == 0
    assert mean_over_runs([1.0, 3.0]).half == pytest.approx(1.96 / math.sqrt(2))  # sd with divisor n is 1


@pytest.mark.parametrize(("gap", "known"), [(0.019, False), (0.021, True)])
def test_intervals_meet_or_not(gap, known):
    assert disjoint(Estimate(1.0, 0.01, 5), Estimate(1.0 + gap, 0.01, 5)) is known
    assert disjoint(Estimate(1.0, None, 1), Estimate(2.0, 0.01, 5)) is None


def runs_of(scores, hours=None, device="a CPU"):
    """Finished runs with these scores."""
    said = {"diverged": 0, "hours": hours, "device": device, "versions": "versions", "episodes": "episodes"}
    return [CountedRun(seed=i, score=s, median=s, folder=f"seed{i}", **said) for i, s in enumerate(map(finite, scores))]


def with_scores(name, scores, hours=None, device=lambda row: "a CPU"):
    """Summaries of an experiment whose cells have the given scores, by row and column, and hours by row."""
    return {
        (cell.row, cell.column): Summary(
            cell,
            EXPERIMENTS[name].scored,
            {},
            2,
            runs_of(scores(cell.row, cell.column), None if hours is None else hours(cell.row), device(cell.row)),
        )
        for cell in EXPERIMENTS[name].cells
    }


def reference(name, row, column):
    (cell,) = [cell for cell in EXPERIMENTS[name].cells if (cell.row, cell.column) == (row, column)]
    return cell.reference


def test_every_cell_of_the_tables_has_the_papers_value():
    for name in ("table1", "table2", "fig5"):
        for cell in EXPERIMENTS[name].cells:
            assert cell.reference is not None
    beside = reference("table2", "FO-MAML", "CUB → miniImageNet 5-shot")
    assert (beside.estimate.value, beside.estimate.half) == (0.45, 0.01)
    assert reference("table1", "First-order TURTLE", "miniImageNet 5-shot").estimate.half == 0.04


def test_the_papers_rounding_counts_when_intervals_are_compared():
    table1 = EXPERIMENTS["table1"]  # of its first cell the paper says 0.29 ± 0.00

    def met(scores):
        return Summary(table1.cells[0], "test", {}, 2, runs_of(scores)).overlaps_reference

    assert met([0.2999, 0.2999]) is True  # 0.2949 and an interval of 0.0049 are rounded so
    assert met([0.3001, 0.3001]) is False
    assert met([]) is None


def verdicts(name, found):
    return [claim.verdict(found).holds for claim in EXPERIMENTS[name].claims]


def test_the_claims_on_fig3():
    def like_the_paper(row, column):
        steps = int(column.split()[-1])
        base = {"F": 0.9, "T": 0.5 if "5 hidden" in row else 0.6, "M": 0.7}[row[0]]
        base = 0.71 if row == "FO-MAML" else base
        base += steps / 100 if row.endswith(("TURTLE, 1 hidden", "TURTLE, 2 hidden")) else 0.0
        return [base - 0.001 * steps, base + 0.001 * steps]

    assert verdicts("fig3", with_scores("fig3", like_the_paper)) == [True] * 5
    assert verdicts("fig3", with_scores("fig3", lambda row, column: [0.6, 0.61])) == [None, True, False, None, None]
    assert verdicts("fig3", with_scores("fig3", lambda row, column: [])) == [None] * 5

    def one_diverges(row, column):  # every run of T = 10 with few layers
        return [math.inf] * 2 if (row, column) == ("TURTLE, 1 hidden", "T = 10") else like_the_paper(row, column)

    assert verdicts("fig3", with_scores("fig3", one_diverges))[2:4] == [True, True]

    def all_diverge(row, column):  # wider than T = 1, but T = 5 and T = 10 cannot be distinguished
        return like_the_paper(row, column) if column == "T = 1" else [0.6, math.inf]

    assert verdicts("fig3", with_scores("fig3", all_diverge))[2] is None

    def fewer_runs(row, column):  # the intervals become wider, and the runs less apart
        return {"T = 1": [0.5, 0.7] * 32, "T = 5": [0.5, 0.65] * 8, "T = 10": [0.5, 0.6]}[column]

    assert verdicts("fig3", with_scores("fig3", fewer_runs))[2] is False


def test_the_claims_on_fig4():
    def scores(row, column):
        return {"MAML": [0.7, 0.71], "TURTLE": [0.4, 0.41], "Meta-learner LSTM": [0.4, 0.8]}[row]

    assert verdicts("fig4", with_scores("fig4", scores)) == [True, None]  # the LSTM's interval is too wide to tell
    reverse = {"MAML": [0.3, 0.31], "TURTLE": [0.4, 0.41], "Meta-learner LSTM": [0.2, 0.21]}
    assert verdicts("fig4", with_scores("fig4", lambda row, column: reverse[row])) == [False, False]
    one = with_scores("fig4", lambda row, column: [] if row == "Meta-learner LSTM" else [0.5])
    assert verdicts("fig4", one) == [None, None]


def papers(table):
    """The paper's own values as scores."""
    return lambda row, column: [reference(table, row, column).estimate.value] * 2


def test_the_claims_on_the_tables():
    assert verdicts("table1", with_scores("table1", papers("table1"))) == [True] * 5
    assert verdicts("table2", with_scores("table2", papers("table2"))) == [True] * 3
    even = with_scores("table1", lambda row, column: [0.2, 0.21])
    assert verdicts("table1", even) == [None, None, True, None, False]  # equal everywhere is no improvement

    def worse_once(row, column):
        value = 0.3 if (row, column) == ("TURTLE", "miniImageNet 5-shot") else papers("table1")(row, column)[0]
        return [value] * 2

    assert verdicts("table1", with_scores("table1", worse_once)) == [False, True, True, False, True]


def test_the_claims_on_time():
    slow = {"MAML": 2.0, "TURTLE": 2.1, "Meta-learner LSTM (enhanced)": 3.0}
    timed = with_scores("fig5", papers("table1"), lambda row: slow.get(row, 1.0))
    assert verdicts("fig5", timed) == [True] * 6
    assert verdicts("fig5", with_scores("fig5", papers("table1"), lambda row: 1.0))[3:] == [False, True, False]
    assert verdicts("fig5", with_scores("fig5", papers("table1")))[3:] == [None, None, None]
    two = with_scores("fig5", papers("table1"), lambda row: 1.0, lambda row: "a GPU" if row == "MAML" else "a CPU")
    assert verdicts("fig5", two)[3:] == [None, None, None]  # hours of two devices do not compare


def test_what_decides_a_claim():
    assert [in_all(v) for v in ([True, True], [True, None], [None, False])] == [True, None, False]
    assert [in_some(v) for v in ([True, None], [None, None], [True, False])] == [True, None, False]
    low, high, wide = Estimate(0.54, 0.001, 5), Estimate(0.56, 0.001, 5), Estimate(0.58, 0.05, 5)
    assert [is_lower(low, high), is_lower(high, low), is_lower(high, wide)] == [True, False, None]
    assert is_close(low, high, 0.022) is True  # to rounding: 0.56 - 0.54 + 0.002 is a little more in float64
    assert [is_close(low, high, t) for t in (0.021, 0.02, 0.01)] == [None, None, False]
    assert [is_close(low, wide, 0.02), is_close(low, wide, 0.1)] == [None, True]
    assert is_close(low, Estimate(0.54, None, 1), 1.0) is None  # one run says nothing of the others

    def decide(column):
        if column == "absent":
            raise MissingRuns("no run of a run")
        return column == "good", "n"

    assert decide_each(["good", "absent"], decide) == (None, "good: n; absent: no run of a run")
    assert decide_each(["good", "absent"], decide, in_some)[0] is None
    assert decide_each(["bad", "absent"], decide)[0] is False


def test_what_is_not_finite_is_null():
    assert estimate_as_json(Estimate(math.inf, None, 1)) == {"value": None, "half": None, "runs": 1}
