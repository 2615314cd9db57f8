"""Run folders of the version before: weights and settings had other names, and agents were not described."""

import json
import shutil

import pytest
import torch

import agents
import agents.exported
import agents.saved
import runners
from runners.config.settings import upgraded
from tests.helpers.cli import MAML, TINY, main, only_run, result_of, sets


def as_it_was(folder):
    """Put a run's files into the form in which the version before wrote them."""
    for name in ("last.pt", "best.pt"):
        content = torch.load(folder / name, weights_only=True)
        weights = dict(content["agent"]["weights"])
        content["agent"]["weights"] = {"prior": weights.pop("initialization")} | weights
        for key in ("trained", "untrained", "untrained_ci95"):
            del content[key]
        content["settings"] = old_settings(content["settings"])
        torch.save(content, folder / name)
    config = json.loads((folder / "config.json").read_text())
    config["settings"] = old_settings(config["settings"])
    (folder / "config.json").write_text(json.dumps(config))


def old_settings(settings):
    kept = {k: v for k, v in settings.items() if k not in ("agent.inner_clip", "agent.task_clip", "agent.network")}
    return kept | {"agent.clip": 10.0, "agent.recompute": True}


@pytest.mark.parametrize("steps", [1, 3])
def test_they_are_tested_loaded_and_resumed_exactly(steps, tmp_path):
    words = [*MAML, *sets(*TINY, f"agent.inner_steps={steps}")]
    assert main(*words, "--log-dir", tmp_path / "whole") == 0
    whole = only_run(tmp_path / "whole")
    assert main(*words, "--set", "train_tasks=12", "--log-dir", tmp_path / "half") == 0
    half = only_run(tmp_path / "half")
    as_it_was(half)
    assert main("eval", half) == 0
    (again,) = half.glob("eval-*.json")
    assert json.loads(again.read_text())["scores"] == result_of(half)["scores"]
    assert type(runners.load(half)).__name__ == "MAML"

    config = json.loads((half / "config.json").read_text())
    config["settings"]["train_tasks"] = 24
    (half / "config.json").write_text(json.dumps(config))
    (half / "result.json").unlink()
    assert main("run", "--resume", half) == 0
    assert result_of(half)["scores"] == result_of(whole)["scores"]
    for name, value in torch.load(whole / "last.pt", weights_only=True)["agent"]["weights"].items():
        assert torch.equal(value, torch.load(half / "last.pt", weights_only=True)["agent"]["weights"][name])
    shutil.rmtree(half)


def test_simpleshot_of_the_version_before_with_settings_and_a_seed_that_it_never_used(tmp_path):
    unused = {"adapt_steps": 100, "adapt_batch": 4, "adapt_lr": 0.001, "check_every": 25}
    words = ["run", "--env", "glyphs", "--agent", "simpleshot", *sets("train_tasks=8", "val_tasks=2", "test_tasks=2",
             "agent.filters=4", "env.n_query=2"), "--log-dir", tmp_path]  # fmt: skip
    assert main(*words) == 0
    run, file = only_run(tmp_path), tmp_path / "agent.safetensors"
    agent = runners.load(run)
    agent.register_buffer("adapt_seed", torch.tensor(5))
    saved = agents.saved.describe(agent)
    agents.exported.write(agent, saved | {"settings": saved["settings"] | unused}, file, {})
    assert torch.equal(agents.load(file).weights, agent.weights)
    for name in ("last.pt", "best.pt"):
        content = torch.load(run / name, weights_only=True)
        content["agent"]["weights"]["adapt_seed"] = torch.tensor(5)
        content["trained"]["settings"] |= unused
        content["settings"] |= {f"agent.{k}": v for k, v in unused.items()}
        torch.save(content, run / name)
    config = json.loads((run / "config.json").read_text())
    config["settings"] |= {f"agent.{k}": v for k, v in unused.items()}
    (run / "config.json").write_text(json.dumps(config))
    assert runners.evaluate(run)["scores"] == result_of(run)["scores"]


def test_several_seeds_of_the_version_before_are_resumed_side_by_side(tmp_path):
    words = [*MAML, *sets(*TINY), "--seeds", 2]
    assert main(*words, "--log-dir", tmp_path / "whole") == 0
    assert main(*words, "--set", "train_tasks=12", "--log-dir", tmp_path / "half") == 0
    whole, half = only_run(tmp_path / "whole"), only_run(tmp_path / "half")
    for seed in ("seed0", "seed1"):
        as_it_was(half / seed)
        config = json.loads((half / seed / "config.json").read_text())
        config["settings"]["train_tasks"] = 24
        (half / seed / "config.json").write_text(json.dumps(config))
        (half / seed / "result.json").unlink()
    assert main("run", "--resume", half) == 0
    for seed in ("seed0", "seed1"):
        assert result_of(half / seed)["scores"] == result_of(whole / seed)["scores"]


def test_settings_of_the_version_before():
    old = {"agent": "maml", "agent.first_order": False, "agent.clip": 10.0, "agent.recompute": True}
    new = {"agent": "maml", "agent.first_order": False}
    assert upgraded(old | {"agent.inner_steps": 5}) == new | {
        "agent.inner_steps": 5, "agent.inner_clip": 10.0, "agent.task_clip": 10.0,
    }  # fmt: skip
    assert upgraded(old | {"agent.inner_steps": 1}) == new | {
        "agent.inner_steps": 1, "agent.inner_clip": None, "agent.task_clip": None,
    }  # fmt: skip
    own = {"agent": "own:Agent", "agent.clip": 3.0, "agent.recompute": 1}
    assert upgraded(own) == own
