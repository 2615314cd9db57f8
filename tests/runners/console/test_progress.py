"""Progress outside a terminal: lines that make sense, and ever fewer of them."""

import pytest

from runners.console import progress
from runners.console.output import duration


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_and_a_rate_without_the_validation_ahead(clock, capsys):
    with progress.progress("training", 1000, "tasks", 100) as report:
        report(100, "")
        clock[0] += 10
        report(100, "validating 5/20")
        clock[0] += 10
        report(300, "loss 0.250")
    assert capsys.readouterr().err.splitlines() == [
        "training 100/1000 (10%), validating 5/20",
        "training 300/1000 (30%), 20 tasks/s, 35 s left, loss 0.250",
    ]


@pytest.mark.parametrize(
    ("seconds", "reports", "shown"),
    [
        (4.9, [500], False),  # too early, however much is finished
        (5, [19], False),  # too little, in too few reports
        (5, [20], True),  # 2 %
        (5, [1, 2, 3], True),
        (5, [1, 2, 2, 2], False),  # a validation reports without finishing a task
    ],
)
def test_no_time_left_before_the_rate_has_settled(seconds, reports, shown, clock):
    rate = progress.Rate(1000, 0)
    rate.update(0)
    clock[0] += seconds
    for done in reports:
        rate.update(done)
    text = rate.describe(reports[-1], "tasks", "")
    assert "tasks/s" in text
    assert (" left" in text) == shown


def test_a_long_run_says_less_and_less(clock, capsys):
    with progress.progress("training", 10**6, "tasks") as report:
        for second in range(36_000):
            clock[0] += 1
            report(second, "")
    lines = capsys.readouterr().err.splitlines()
    assert 50 < len(lines) < 150
    assert lines[-1].startswith("training 35")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (85, "85 s"), (90, "2 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
