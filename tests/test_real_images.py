"""The real images of FSL_DATA: original layouts, and learners that beat chance on classes never seen.

Conv4 has 8 filters here, so that the whole file takes minutes; docs/results/images.md has the full size.
"""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import agents
from agents.engine.stack import Stack
from fewshot_env.data.source import PrepareOptions, SourceImage
from fewshot_env.data.verify import verify_store
from fewshot_env.images import CUB, MiniImageNet
from fewshot_env.prepare import prepare
from fewshot_env.rng import SPLITS, task_seeds
from fewshot_env.store import ImageStore, checksum
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import tune
from runners.evaluation.evaluate import evaluate, frozen_seeds, summarise
from runners.training.step import outer_step
from tests.helpers.cli import TINY, main, only_run, result_of, sets
from tests.helpers.images import as_folders, assert_same_images, packed

pytestmark = pytest.mark.slow

SMALL = {"filters": 8}


def test_the_stores_hold_what_the_folders_hold(real_data):
    mini, cub = (ImageStore.open(real_data / name) for name in ("mini", "cub"))
    for store in (mini, cub):
        assert store.index["sha256"] == checksum(store.images)
        assert sum(c.count for c in store.classes) == len(store.images)
    assert [len(mini.of_split(s)) for s in ("train", "val", "test")] == [64, 16, 20]
    assert {c.count for c in mini.classes} == {60}
    # Chen et al.'s rule on the 50 classes of the partial copy
    assert [len(cub.of_split(s)) for s in ("train", "val", "test")] == [25, 13, 12]
    assert len(cub.images) == 2889
    assert min(c.count for c in cub.classes) == 41
    assert max(c.count for c in cub.classes) == 60
    gray = [
        f for f in cub.index["files"] if f in ("Brewer_Blackbird_0028_2682.jpg", "Pelagic_Cormorant_0022_23802.jpg")
    ]
    for file in gray:
        pixels = cub.images[cub.index["files"].index(file)]
        assert (pixels[..., 0] == pixels[..., 2]).all()
    assert len(gray) == 2


def test_stored_pixels_are_the_original_ones(real_data):
    source = Path(os.environ["FSL_DATA"]) / "mini-imagenet" / "images"
    store = ImageStore.open(real_data / "mini")
    for i in range(0, len(store.images), 997):
        file = store.index["files"][i]
        assert (store.images[i] == SourceImage(file, "", "", source / file).read()).all()


def test_the_real_duplicate_across_train_and_val_is_found(real_data):
    """Of the eight identical pairs of miniImageNet, this partial copy holds one."""
    store = ImageStore.open(real_data / "mini")
    (pair,) = verify_store(store).duplicates
    assert sorted(store.index["files"][i] for i in pair) == ["n0353578000000484.jpg", "n0388860500000663.jpg"]
    assert verify_store(ImageStore.open(real_data / "cub")).duplicates == ()


@pytest.mark.parametrize("form", ["folders", "a.zip", "a.tar.gz", "cache", "category_split"])
def test_real_mini_in_every_form(form, real_data, tmp_path):
    store = ImageStore.open(real_data / "mini")
    source = Path(os.environ["FSL_DATA"]) / "mini-imagenet"
    (tmp_path / "p").mkdir()
    for split in SPLITS if form in ("cache", "category_split") else ():
        held = store.of_split(split)
        first, last = held[0].start, held[-1].start + held[-1].count
        images, labels = np.array(store.images[first:last]), np.repeat(range(len(held)), [c.count for c in held])
        if form == "cache":
            data = {
                "image_data": images,
                "class_dict": {c.name: np.flatnonzero(labels == i) for i, c in enumerate(held)},
            }
            file = tmp_path / "p" / f"mini-imagenet-cache-{split}.pkl"
        else:
            data = {"data": images, "labels": labels.tolist(), "catname2label": {c.name: i for i, c in enumerate(held)}}
            phase = "train_phase_train" if split == "train" else split
            file = tmp_path / "p" / f"miniImageNet_category_split_{phase}.pickle"
        file.write_bytes(pickle.dumps(data, 2))
    given = tmp_path / "p"
    if form == "folders":
        given = as_folders(source, tmp_path / "folders")
    elif "." in form:
        given = packed(source, tmp_path / form, "mini-imagenet/")
    again = prepare("mini", given, tmp_path / "s")
    assert again.index["sha256"] == store.index["sha256"]
    assert again.classes == store.classes


def test_real_cub_as_its_archive_by_both_splits_and_cropped(real_data, tmp_path):
    store = ImageStore.open(real_data / "cub")
    source = Path(os.environ["FSL_DATA"]) / "CUB_200_2011"
    assert_same_images(
        store, prepare("cub", packed(source, tmp_path / "CUB_200_2011.tgz", "CUB_200_2011/"), tmp_path / "s")
    )
    meta = prepare("cub", source, tmp_path / "s", options=PrepareOptions("meta-dataset"))
    fewer = prepare("cub", source, tmp_path / "s", options=PrepareOptions("meta-dataset-no-imagenet"))
    assert (len(meta.images), len(fewer.images)) == (2889, 2889 - 21)
    assert [len(meta.of_split(s)) for s in SPLITS] == [len(fewer.of_split(s)) for s in SPLITS]
    cropped = prepare("cub", source, tmp_path / "s", options=PrepareOptions(crop=True))
    assert cropped.index["files"] == store.index["files"]
    assert cropped.index["sha256"] != store.index["sha256"]


def test_the_cross_domain_command_runs_on_real_images(real_data, tmp_path, capsys):
    words = ["run", "--env", "mini->cub", "--agent", "turtle", "--data-dir", real_data, "--log-dir", tmp_path]
    assert main(*words, *sets(*TINY, "train_tasks=4", "val_tasks=2", "test_tasks=4", "agent.filters=8")) == 0
    assert result_of(only_run(tmp_path))["env"] == "mini->cub"
    assert "test on cub: accuracy" in capsys.readouterr().out


def learn(family, name, tasks, n_shot, real_data, **settings):
    """Train on `tasks` tasks (or minibatches); accuracy on 100 test tasks and its 95 % interval."""
    tune(1)
    torch.manual_seed(0)
    places = {"n_shot": n_shot, "n_query": 5, "data_dir": str(real_data)}
    test = FewShotVectorEnv(family(split="test", **places), num_envs=5)
    agent = agents.make(name, test.task_spec, n_shot, **(SMALL | settings)).train()
    stack, minibatch = Stack([agent]), agent.config.minibatch
    batch = agent.config.tasks_per_step
    train = FewShotVectorEnv(family(minibatch=minibatch, **places), num_envs=batch)
    for done in range(0, tasks, batch):
        outer_step(stack, train, [task_seeds(0, "train", done, batch)])
    (scores,) = evaluate(agent, test, frozen_seeds("test", 100))
    result = summarise(test.task_spec, scores)
    return result["mean"], result["ci95"]


@pytest.mark.parametrize("name", ["finetuning", "baseline++"])
def test_transfer_beats_chance_on_cub_after_400_minibatches(name, real_data):
    mean, interval = learn(CUB, name, 400, 5, real_data, outer_lr=0.003, adapt_lr=0.01)
    assert mean - interval > 0.2


META = {
    "maml": (100, {"meta_batch": 4, "inner_lr": 0.05}),
    "lstm": (100, {"meta_batch": 4, "outer_lr": 0.01, "inner_steps": 5}),
    "lstm-enhanced": (100, {"meta_batch": 4, "outer_lr": 0.01, "inner_steps": 5}),
    "turtle": (600, {"meta_batch": 4, "outer_lr": 0.003, "inner_steps": 3, "time_input": False}),
}


@pytest.mark.parametrize("name", META)
def test_meta_learners_beat_chance_on_mini(name, real_data):
    """1-shot, after the number of training tasks in META."""
    tasks, settings = META[name]
    mean, interval = learn(MiniImageNet, name, tasks, 1, real_data, **settings)
    assert mean - interval > 0.2
