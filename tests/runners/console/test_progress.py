"""Progress outside a terminal: lines that make sense, and ever fewer of them."""

import re

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
        report(200, "")
        clock[0] += 10
        report(300, "")
        clock[0] += 10
        report(400, "loss 0.250")
    assert capsys.readouterr().err.splitlines() == [
        "training 100/1000 (10%), validating 5/20",
        "training 200/1000 (20%), 10 tasks/s",
        "training 300/1000 (30%), 10 tasks/s",
        "training 400/1000 (40%), 10 tasks/s, 60 s left, loss 0.250",
    ]


RUNS = {
    "steady": lambda t: 10 * t,
    "a kernel is built first": lambda t: 1 + 100 * max(0, t - 12) if t > 10 else 0,
    "slow, then fast": lambda t: t if t < 20 else 20 + 200 * (t - 20),
    "validations": lambda t: 50 * (t // 60 * 50 + min(t % 60, 50)),
}


@pytest.mark.parametrize("name", RUNS)
def test_time_left_is_promised_only_where_it_comes_true(name, clock):
    """Reports every half second; what is promised is compared with what it then takes, within a factor of two."""
    total, run = 20_000, RUNS[name]
    ends = next(t for t in range(10**6) if run(t) >= total)
    rate, promised = progress.Rate(total, 0), 0
    for half in range(2 * ends):
        clock[0] = 1000 + half / 2
        rate.update(done := int(run(half / 2)))
        text = rate.describe(done, "tasks", "")
        if half < 10:
            assert " left" not in text
        if (left := re.search(r"([0-9.]+) (s|min) left", text)) and "h" not in text.rpartition(",")[2]:
            promised += 1
            seconds, truth = float(left[1]) * (60 if left[2] == "min" else 1), ends - half / 2
            late = name == "slow, then fast" and half < 2 * 30  # nobody knows that it will be faster
            assert late or seconds / 2 - 60 <= truth <= 2 * seconds + 60
    assert promised > ends / 2


def test_no_time_left_after_few_reports(clock):
    rate = progress.Rate(1000, 0)
    rate.update(0)
    clock[0] += 60
    rate.update(500)
    assert "8.33 tasks/s" in (text := rate.describe(500, "tasks", ""))
    assert " left" not in text
    for _ in range(3):  # a validation reports without finishing a task
        rate.update(500)
    assert " left" not in rate.describe(500, "tasks", "")


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
