"""Honest evaluation: answers stay hidden, splits stay apart, testing changes nothing and happens once."""

import json
import random

import numpy as np
import pytest
import torch

import agents
from agents.maml import MAML
from agents.transfer import Finetuning
from fewshot_env.env import FewShotEnv
from fewshot_env.episode import Episode, Split
from fewshot_env.images import ImageSampler
from fewshot_env.sine import SineSampler
from fewshot_env.store import FORMAT, checksum
from fewshot_env.vector import FewShotVectorEnv
from runners.evaluation.evaluate import evaluate, frozen_seeds
from runners.loggers.all_loggers import Loggers
from runners.loggers.show import show_test, show_validation
from tests.helpers.cli import TINY, main, only_run, result_of, sets

CLASSES = {"train": range(1, 7), "val": range(7, 12), "test": range(12, 17)}


def write_revealing(folder, name, offset):
    """A store whose every pixel says its class: class k is an image of the value offset + k."""
    numbers = [offset + k for of_split in CLASSES.values() for k in of_split]
    images = np.repeat(np.array(numbers, np.uint8), 8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    splits = [split for split, of_split in CLASSES.items() for _ in of_split]
    classes = [{"name": f"c{i}", "split": s, "start": 8 * i, "count": 8} for i, s in enumerate(splits)]
    (folder / name).mkdir(parents=True)
    np.save(folder / name / "images.npy", images)
    index = FORMAT | {"name": name, "title": name, "sha256": checksum(images), "classes": classes}
    (folder / name / "index.json").write_text(json.dumps(index))


class Seen:
    """What the spies were shown: (training, classes of the images, whether it came before the test's end)."""

    calls: list[tuple[bool, frozenset[int]]] = []

    def adapt(self, support):
        self.note(support.x)
        return super().adapt(support)

    def predict(self, adapted, query_x):
        self.note(query_x)
        return super().predict(adapted, query_x)

    def note(self, x):
        assert isinstance(x, torch.Tensor)
        Seen.calls.append((self.training, frozenset((x[..., 0, 0, 0] * 255).round().int().flatten().tolist())))


class EpisodicSpy(Seen, MAML):
    pass


class MinibatchSpy(Seen, Finetuning):
    pass


@pytest.mark.parametrize("spy", ["EpisodicSpy", pytest.param("MinibatchSpy", marks=pytest.mark.slow)])
@pytest.mark.parametrize("env", [pytest.param("mine", marks=pytest.mark.slow), "mine->other"])
def test_val_and_test_classes_never_enter_training(spy, env, tmp_path):
    write_revealing(tmp_path / "data", "mine", 0)
    write_revealing(tmp_path / "data", "other", 100)
    Seen.calls = []
    words = ["run", "--env", env, "--agent", f"{__name__}:{spy}", "--data-dir", tmp_path / "data"]
    few = sets(*TINY, "env.n_way=3", "env.n_query=2", "agent.filters=2", "train_tasks=40")
    assert main(*words, *few, "--log-dir", tmp_path / "runs") == 0
    tested = {k + 100 * ("other" in env) for k in CLASSES["test"]}
    trained = set().union(*(seen for training, seen in Seen.calls if training))
    assert trained == set(CLASSES["train"])
    evaluated = [seen for training, seen in Seen.calls if not training and seen]
    assert all(seen <= set(CLASSES["val"]) or seen <= tested for seen in evaluated)
    assert set().union(*evaluated) == set(CLASSES["val"]) | tested
    first = next(i for i, (_, seen) in enumerate(Seen.calls) if seen & tested)
    assert all(not training and seen <= tested for training, seen in Seen.calls[first:])  # nothing follows the test


def test_the_test_split_is_sampled_once_at_the_end(tmp_path, monkeypatch):
    sampled, real = [], SineSampler.sample
    monkeypatch.setattr(
        SineSampler, "sample", lambda s, seeds: (sampled.append((s.config.split, seeds)), real(s, seeds))[1]
    )
    main("run", "--env", "sine", "--agent", "maml", "--log-dir", tmp_path, *sets(*TINY))
    splits = [split for split, _ in sampled]
    first = splits.index("test")
    assert set(splits[first:]) == {"test"}
    *batches, picture = [list(seeds) for _, seeds in sampled[first:]]
    assert [seed for batch in batches for seed in batch] == frozen_seeds("test", 8)
    assert picture == frozen_seeds("test", 1)  # drawn after the scores are fixed


class Negated(SineSampler):
    """The same tasks with other query answers."""

    def sample(self, task_seeds):
        task = super().sample(task_seeds)
        return Episode(task.support, Split(task.query.x, -task.query.labels))


def test_nothing_before_step_depends_on_the_query_answers():
    seeds = {"task_seed": [3, 4]}
    for one, other, options in (
        (FewShotVectorEnv(SineSampler(), 2), FewShotVectorEnv(Negated(), 2), seeds),
        (FewShotEnv(SineSampler()), FewShotEnv(Negated()), {"task_seed": 3}),
    ):
        (obs, info), (obs2, info2) = one.reset(options=options), other.reset(options=options)
        assert obs.keys() == obs2.keys() == {"support_x", "support_y", "query_x"}
        assert info.keys() == info2.keys() == {"task_seed", "n_outputs"}
        assert all((obs[name] == obs2[name]).all() for name in obs)
        answers = torch.zeros(2, 50, 1) if isinstance(one, FewShotVectorEnv) else np.zeros((50, 1))
        assert (one.step(answers)[4]["query_y"] == -other.step(answers)[4]["query_y"]).all()
    assert Episode.from_obs({k: torch.zeros(1) for k in obs}).query.y is None


def test_the_place_of_a_query_image_does_not_tell_its_label(small_store):
    labels = ImageSampler(small_store, n_way=4, n_shot=1, n_query=3).sample(range(4000)).query.labels
    counts = torch.stack([(labels == k).float().sum(0) for k in range(4)])  # [labels, places]
    assert ((counts - 1000) ** 2 / 1000).sum() < 90  # 33 degrees of freedom: p < 1e-6


AGENTS = {
    "maml": {},
    "turtle": {},
    "lstm": {},
    "scratch": {"adapt_steps": 3},
    "finetuning": {"adapt_steps": 3},
    "baseline++": {"adapt_steps": 3},
}


@pytest.mark.parametrize(
    "bn", ["running", *(pytest.param(bn, marks=pytest.mark.slow) for bn in ("transductive", "support"))]
)
@pytest.mark.parametrize("name", AGENTS)
def test_evaluation_changes_no_state(name, bn, small_store, tmp_path):
    sampler = ImageSampler(small_store, n_way=3, n_shot=1, n_query=2)
    agent = agents.make(name, sampler.spec, filters=3, padding=1, bn=bn, **AGENTS[name]).train()
    if agent.learns:
        m = agent.config.minibatch
        task = ImageSampler(small_store, n_way=3, n_shot=1, n_query=2, minibatch=m).sample([1]).to("cpu")
        agent.meta_update(agent.predict(agent.adapt(task.support), task.query.x), task.query.labels)
    before = {name: value.clone() for name, value in flat(agent.state()).items()}
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    test = FewShotVectorEnv(ImageSampler(small_store, split="test", n_way=3, n_shot=1, n_query=2), 2)
    evaluate(agent, test, frozen_seeds("test", 5))
    loggers = Loggers(tmp_path, {"loggers": []}, 0)
    show_validation(loggers, agent, test, [7, 8], 0)
    show_test(loggers, agent, test, [7], 0)
    loggers.close()
    after = flat(agent.state())
    assert agent.training
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(generators[0], torch.get_rng_state())
    assert (generators[1] == np.random.get_state()[1]).all()
    assert generators[2] == random.getstate()


def flat(value, prefix=""):
    """The tensors of nested dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {k: t for name, inner in items for k, t in flat(inner, f"{prefix}/{name}").items()}


@pytest.mark.slow
def test_how_often_one_validates_changes_no_training(tmp_path):
    weights = []
    for every in (4, 1000):
        folder = tmp_path / str(every)
        main("run", "--env", "sine", "--agent", "turtle", "--log-dir", folder, *sets(*TINY, f"val_every={every}"))
        weights.append(torch.load(only_run(folder) / "last.pt", weights_only=True)["agent"])
    assert flat(weights[0]).keys() == flat(weights[1]).keys()
    assert all(torch.equal(value, flat(weights[1])[key]) for key, value in flat(weights[0]).items())
    assert result_of(only_run(tmp_path / "4"))["settings"]["val_every"] == 4
