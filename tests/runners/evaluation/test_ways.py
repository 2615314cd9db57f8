"""A trained agent is tested at other ways than it was trained at, where its network has outputs for them."""

import pytest

from runners.evaluation.result import remarks
from runners.storage.schemas import read_result
from tests.helpers.cli import TINY, main, only_run, sets

SMALL = sets(*TINY, "agent.filters=4", "env.n_query=3")
TRANSFER = ("finetuning", "baseline++", "scratch")


def trained(agent, ways, folder):
    words = ["run", "--env", "glyphs", "--agent", agent, "--n-way", ways, "--log-dir", folder, *SMALL]
    words += sets("agent.adapt_steps=3") if agent in TRANSFER else sets("agent.inner_steps=1")
    assert main(*words) == 0
    return only_run(folder)


@pytest.mark.parametrize("ways", ["3", "3-4", "5", "3-5", "4"])
def test_drawn_ways_are_tested_at_any_within_them(ways, tmp_path, capsys):
    run = trained("maml", "3-5", tmp_path)
    capsys.readouterr()
    assert main("eval", run, "--set", f"env.n_way={ways}") == 0
    out = capsys.readouterr().out
    assert "accuracy" in out
    assert "surplus outputs" not in out
    (file,) = run.glob("eval-*.json")
    assert str(read_result(file)["settings"]["env.n_way"]) == (
        ways if "-" not in ways else str([*map(int, ways.split("-"))])
    )


@pytest.mark.parametrize("agent", ["maml", "turtle", "lstm", "finetuning", "baseline++", "scratch"])
def test_fewer_ways_cut_the_surplus_outputs_and_say_so(agent, tmp_path, capsys):
    run = trained(agent, "4", tmp_path)
    capsys.readouterr()
    assert main("eval", run, "--set", "env.n_way=2", "--tasks", "6") == 0
    out = capsys.readouterr().out
    new_head = agent in TRANSFER  # a head for each task: nothing is cut
    assert ("trained for 4 ways, tested at 2: surplus outputs were cut" in out) != new_head
    (file,) = run.glob("eval-*.json")
    result = read_result(file)
    assert result.get("outputs_cut") == (None if new_head else {"trained": "4", "tested": "2"})
    assert all(0 <= score <= 1 for score in result["scores"])


def test_more_ways_than_outputs_are_refused(tmp_path, capsys):
    run = trained("maml", "3", tmp_path)
    assert main("eval", run, "--set", "env.n_way=4") == 2
    assert "has outputs for 3 classes, but env.n_way is 4; test it at 3 or fewer" in capsys.readouterr().err


def test_cut_predictions_are_those_of_the_first_outputs(tmp_path):
    """The same tasks by hand: adapt with all outputs, answer with the first two."""
    import torch

    import runners
    from fewshot_env.episode import Episode
    from fewshot_env.vector import FewShotVectorEnv
    from fewshot_env.worlds.sampler import Glyphs
    from runners.evaluation.evaluate import frozen_seeds

    run = trained("maml", "4", tmp_path)
    result = runners.evaluate(run, settings={"env.n_way": 2, "test_tasks": 5})
    agent = runners.load(run)
    scores = []
    for seed in frozen_seeds("test", 5):
        env = FewShotVectorEnv(Glyphs(split="test", n_way=2, n_query=3))
        obs, _ = env.reset(options={"task_seed": [seed]})
        episode = Episode.from_obs(obs)
        with torch.no_grad():
            predictions = agent.predict(agent.adapt(episode.support), episode.query.x)
        assert predictions.shape[-1] == 4
        scores.append(float(env.step(predictions[..., :2])[1]))
    assert result["scores"] == pytest.approx(scores)


def test_images_of_another_size_are_refused_with_what_to_do(tmp_path, capsys):
    run = trained("maml", "3", tmp_path)
    capsys.readouterr()
    assert main("eval", run, "--set", "env.n_way=2", "--set", "env.size=32") == 2
    error = capsys.readouterr().err
    assert "was trained on items of 3x28x28, but these tasks have 3x32x32; test it on items of its shape" in error
    assert error.count("\n") == 1


def test_the_last_line_names_the_tested_weights(tmp_path, capsys):
    results = [{"settings": {"train_tasks": 10, "agent.meta_batch": 4}, "best_at_tasks": best} for best in (4, 8)]
    assert remarks(results[1:]) == ""
    assert remarks(results[:1]) == "; tested the weights after 4 of 10 tasks, the best in validation"
    assert remarks(results) == "; tested the weights after 4 to 8 of 10 tasks, the best in validation"
