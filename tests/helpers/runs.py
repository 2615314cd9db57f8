"""Finished runs compared: bit for bit, or but for the last digits."""

import json

import pytest
import torch

from tests.helpers.cli import only_run, result_of


def everything(run):
    """Weights, optimizer, scores, charts and logged rows of a finished run (without times)."""
    state = torch.load(run / "last.pt", weights_only=True) | {"seconds": None}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    return state, result_of(run)["scores"], rows, (run / "charts.jsonl").read_text()


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_equal_runs(folder):
    """The runs below "whole" and "cut" ended alike."""
    whole, cut = (everything(only_run(folder / name)) for name in ("whole", "cut"))
    assert all(same(a, b) for a, b in zip(whole, cut, strict=True))


def rows(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in found]


def assert_close_runs(run, other, rel=1e-4):
    for a, b in zip(rows(run), rows(other), strict=True):
        inner = any(key.startswith("val_inner/") for key in a)  # after many steps the weights' last digits show
        assert a == pytest.approx(b, rel=50 * rel if inner else rel, abs=1e-5)
    assert result_of(run)["scores"] == pytest.approx(result_of(other)["scores"], rel=rel)
    states = [torch.load(r / "last.pt", weights_only=True)["agent"]["weights"] for r in (run, other)]
    for name, value in states[0].items():
        assert (value - states[1][name]).norm() <= 10 * rel * value.norm()
