"""Tasks of coming steps that are sampled together are those that each step would have sampled."""

import pytest
import torch

import agents
from agents import kernels
from fewshot_env.rng import task_seeds
from fewshot_env.sine import SineSampler
from runners.distributed.process_group import SINGLE_PROCESS
from runners.training.ahead import TASKS, Ahead
from tests.helpers.cli import main, only_run, result_of, sets


@pytest.mark.skipif(kernels.library() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(("batch", "run_seeds"), [(1, [5]), (4, [5]), (3, [5, 6, 7]), (TASKS + 1, [1])])
def test_every_steps_tasks_are_those_of_its_seeds(batch, run_seeds):
    sampler = SineSampler()
    agent = agents.make("maml", sampler.spec, meta_batch=batch)
    ahead = Ahead(agent, sampler, run_seeds, SINGLE_PROCESS, 2000)
    for before in (0, batch, 2 * batch, 5 * batch, batch, 600 * batch, 600 * batch + 1):  # resumed, and any jump
        seeds = [s for run in run_seeds for s in task_seeds(run, "train", before, batch)]
        expected, found = sampler.sample(seeds), ahead.task(before)
        for name in ("support", "query"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert torch.equal(ours.x, theirs.x)
            assert torch.equal(ours.y, theirs.y)


@pytest.mark.skipif(kernels.library() is None, reason="there is no C++ compiler")
def test_there_are_none_for_drawn_shapes_parts_and_the_usual_way():
    sampler = SineSampler()
    agent = agents.make("maml", sampler.spec)
    assert Ahead(agent, sampler, [0], SINGLE_PROCESS, 10).task(0) is not None
    with kernels.off():
        assert Ahead(agent, sampler, [0], SINGLE_PROCESS, 10).task(0) is None
    assert Ahead(agent, SineSampler(n_shot="2-5"), [0], SINGLE_PROCESS, 10).task(0) is None
    in_parts = agents.make("maml", sampler.spec, at_once=1)
    assert Ahead(in_parts, sampler, [0], SINGLE_PROCESS, 10).task(0) is None


@pytest.mark.skipif(kernels.library() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("more", [["--seeds", 2], [], ["--set", "agent.at_once=2"]])
def test_a_run_with_native_steps_ends_as_one_without(more, tmp_path, monkeypatch):
    scores = []
    for on in (True, False):
        words = ["run", "--env", "sine", "--agent", "maml", *sets("train_tasks=40", "val_tasks=5", "test_tasks=20",
                 "val_every=20", "agent.meta_batch=4", "agent.inner_steps=3"), *more]  # fmt: skip
        folder = tmp_path / str(on)
        if on:
            assert main(*words, "--log-dir", folder) == 0
        else:
            with kernels.off():
                assert main(*words, "--log-dir", folder) == 0
        runs = sorted(folder.glob("*/seed*")) or [only_run(folder)]
        scores.append([result_of(run)["mean"] for run in runs])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
