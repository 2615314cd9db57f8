"""Seconds by phase, over interruptions."""

from runners.training.stopwatch import Stopwatch


def test_phases_add_up_with_those_of_earlier_parts(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("runners.training.stopwatch.time.monotonic", lambda: now[0])
    watch = Stopwatch({"train": 5.0})
    now[0] += 50  # before the first phase nothing counts
    watch.switch("train")
    now[0] += 2
    assert watch.switch("validation") == "train"
    now[0] += 1
    assert watch.switch("train") == "validation"
    now[0] += 3
    assert watch.read() == {"train": 10.0, "validation": 1.0}
    now[0] += 1
    assert watch.read() == {"train": 11.0, "validation": 1.0}
