"""`fsl bench` measures what it says."""

import pytest
import torch

from runners.training.bench import Case, measure, sampler_of, table, verify
from tests.helpers.cli import fsl, main

FAST = {"filters": 4, "inner_steps": 1}


@pytest.mark.slow
def test_a_cell_in_its_own_process():
    cell = Case("maml", "conv4", FAST, seconds=0.5)
    row = measure(cell)
    assert row.tasks_per_second > 0
    assert row.share_of_limit is not None
    assert 0 < row.share_of_limit < 1
    assert 0 < row.input_share < 1
    assert row.own_memory >= row.memory_before > 50
    assert row.file_memory > 10

    # support: gradient and Hessian-vector product; query: forward and backward; most of it in the first two blocks
    def conv(items, side, channels, passes):
        return 2 * items * side**2 * channels * 9 * 4 * passes

    least = conv(5, 82, 3, 2 + 3) + conv(5, 39, 4, 3 + 7) + conv(75, 82, 3, 2) + conv(75, 39, 4, 3)
    assert least / 1e9 < row.gflop_per_task < 1.3 * least / 1e9
    assert "| maml filters=4 inner_steps=1 | conv4 |" in table([(cell, row)])


@pytest.mark.slow
def test_two_processes_and_the_command():
    done = fsl("bench", "--agent", "maml", "--workload", "sine", "--seconds", 0.3, "--processes", 2, "--meta-batch", 4)
    lines = done.stdout.splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:3]] == ["maml meta_batch=4", "sine"]
    assert float(lines[2].split("|")[3]) > 1


def test_tasks_are_those_of_the_goal():
    task = sampler_of("conv4-5shot", 0).sample([1, 2])
    assert (task.support.x.shape, task.query.x.shape) == ((2, 25, 3, 84, 84), (2, 75, 3, 84, 84))
    assert task.query.x.dtype == torch.uint8


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--workload", "conv"], "unknown workload 'conv'"),
        (["--agent", "mamll"], "unknown agent 'mamll'"),
        (["--agent", "chance"], "chance is not meta-trained"),
        (["--device", "banana"], "device 'banana' cannot be used"),
        (["--set", "seed=3"], "fsl bench takes only those, as agent.NAME=VALUE"),
        (["--agent", "turtle", "--processes", "3"], "3 processes are too many for 2 tasks per step"),
    ],
)
def test_bad_input(words, reason, capsys):
    assert main("bench", *words) == 2
    assert reason in capsys.readouterr().err


def test_a_cell_that_can_be_measured_passes_the_check():
    verify(Case("finetuning", "conv4", {}))


@pytest.mark.parametrize("limits", [[1e-9] * 9, [1e-9, 1e-9, 1e9, 1e-9, 1e-9]])
def test_no_share_of_a_limit_that_the_work_exceeds(limits, monkeypatch):
    """The best of the limits that were measured beside the work counts; beyond it nothing is claimed."""
    from runners.distributed.process_group import free_port
    from runners.training import bench

    left = iter(limits)
    monkeypatch.setattr(bench, "_limit", lambda *_: next(left))
    row = bench._measure(Case("maml", "sine", {}, seconds=0.2), 0, free_port())
    assert (row.share_of_limit is None) == (max(limits) < 1)
    assert ("unknown" in table([(Case("maml", "sine", {}), row)])) == (row.share_of_limit is None)
