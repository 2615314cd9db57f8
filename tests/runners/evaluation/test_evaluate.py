"""Scores, intervals, and tasks that diverged."""

import json
import math

import pytest
import torch

from agents.chance import Chance
from fewshot_env.episode import TaskSpec
from fewshot_env.sine import SineSampler
from fewshot_env.vector import FewShotVectorEnv
from runners.evaluation.evaluate import episode_hash, evaluate, frozen_seeds, in_words, summarise

IMAGES = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
SINE = SineSampler().spec


def test_summary():
    result = summarise(IMAGES, [0.2, 0.4, 0.9])
    assert result["mean"] == pytest.approx(0.5)
    assert result["ci95"] == pytest.approx(1.96 * 0.360555 / math.sqrt(3), rel=1e-5)
    assert (result["median"], result["tasks"], result["diverged"]) == (0.4, 3, 0)
    assert in_words(result) == "accuracy 0.500 ± 0.408 (95 % interval over 3 tasks), median 0.400"


def test_diverged_tasks_are_counted_and_never_hidden():
    result = summarise(SINE, [-1.0, -3.0, -500.0, math.nan])
    assert result["mean"] == pytest.approx(504 / 3)
    assert (result["median"], result["diverged"]) == (251.5, 2)
    assert "2 diverged" in in_words(result)
    nothing = summarise(SINE, [math.nan, -math.inf])
    assert (nothing["mean"], nothing["diverged"]) == (None, 2)
    assert "all 2 tasks diverged" in in_words(nothing)


class Breaks(Chance):
    """Its predictions are not finite on every task whose first support answer is negative."""

    def adapt(self, support):
        bad = support.labels[:, :1] < 0
        return super().adapt(support).masked_fill(bad, math.nan)


def test_predictions_that_are_not_finite_score_nan_and_padding_is_dropped():
    env = FewShotVectorEnv(SineSampler(), num_envs=4)
    seeds = frozen_seeds("test", 10)
    (scores,) = evaluate(Breaks(SINE, Breaks.Config()), env, seeds)
    first = SineSampler().sample(seeds).support.labels[:, 0, 0]
    assert [math.isnan(s) for s in scores] == (first < 0).tolist()
    assert 0 < sum(map(math.isnan, scores)) < 10
    (sound,) = evaluate(Chance(SINE, Chance.Config()), env, seeds)
    assert len(sound) == 10
    assert [s for s in scores if not math.isnan(s)] == [
        b for a, b in zip(scores, sound, strict=True) if not math.isnan(a)
    ]


def test_such_weights_are_never_the_best_and_results_stay_json(tmp_path, monkeypatch):
    from runners.training import trainer as train
    from tests.helpers.cli import TINY, main, only_run, sets

    real, calls = train.evaluate, [0]

    def broken(*arguments):
        calls[0] += 1
        (scores,) = real(*arguments)
        return [[math.nan, *[-1e-9] * (len(scores) - 1)] if calls[0] in (2, 4) else scores]

    monkeypatch.setattr(train, "evaluate", broken)
    main("run", "--env", "sine", "--agent", "maml", "--log-dir", tmp_path, *sets(*TINY))
    run = only_run(tmp_path)
    assert torch.load(run / "best.pt", weights_only=True)["tasks_seen"] != 12
    strict = json.loads((run / "result.json").read_text(), parse_constant=pytest.fail)
    assert strict["scores"][0] is None
    assert strict["diverged"] == 1
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_the_published_sine_episodes_keep_their_hash():
    """docs/results/sine.md is about these 2,000 tasks."""
    env = FewShotVectorEnv(SineSampler(split="test"))
    assert episode_hash(env, frozen_seeds("test", 2000)) == "ed7cbac9b7ab7503"
