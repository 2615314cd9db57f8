"""`fsl run` from end to end with tiny numbers, and everything it leaves behind."""

import json
import sys

import gymnasium
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fewshot_env import registry
from tests.helpers.cli import IMAGES, MAML, SMALL_NET, TINY, main, only_run, result_of, sets


@pytest.fixture
def board():
    def read(run):
        events = EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0, "histograms": 0})
        events.Reload()
        return events

    return read


def test_sine_run_fills_its_folder(tmp_path, board, capsys):
    assert main("run", "--env", "sine", "--agent", "turtle", "--seed", 3, "--log-dir", tmp_path, *sets(*TINY)) == 0
    run = only_run(tmp_path)
    out = capsys.readouterr().out
    assert "test on sine: mse" in out
    assert "95 % interval over 8 tasks" in out
    assert {"config.json", "metrics.jsonl", "last.pt", "best.pt", "result.json"} <= {p.name for p in run.iterdir()}
    result = result_of(run)
    assert result["metric"] == "mse"
    assert len(result["scores"]) == result["tasks"] == 8
    assert result["mean"] == pytest.approx(sum(result["scores"]) / 8)
    assert result["ci95"] == pytest.approx(1.96 * torch.tensor(result["scores"]).double().std().item() / 8**0.5)
    assert result["settings"]["seed"] == 3
    assert result["settings"]["agent.hidden_layers"] == 5
    assert set(result["versions"]) == {"fewshot", "torch", "gymnasium", "numpy"}
    assert len(result["episode_hash"]) == 16

    events = board(run)
    tags = events.Tags()
    wanted = {
        "train/loss",
        "train/score",
        "train/grad_norm",
        "inner/loss_0",
        "time/tasks_per_second",
        "val/mse",
        "test/mse",
    }
    assert wanted <= set(tags["scalars"])
    assert {"val/episode", "test/episode"} <= set(tags["images"])
    assert {"rates/layer0", "rates/layer1", "rates/head"} <= set(tags["histograms"])
    assert "config/text_summary" in tags["tensors"]
    assert "agent.inner_steps" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert [e.step for e in events.Scalars("train/loss")] == [4, 8, 12, 16, 20, 24]
    assert [e.step for e in events.Scalars("val/mse")] == [0, 12, 24]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [row["train/loss"] for row in rows if "train/loss" in row]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(logged, rel=1e-6)


def test_hyperparameters_are_logged_for_comparison(tmp_path):
    main(*MAML, "--log-dir", tmp_path, *sets(*TINY))
    events = EventAccumulator(str(only_run(tmp_path) / "test"))
    events.Reload()
    assert set(events.PluginTagToContent("hparams")) == {f"_hparams_/session_{part}_info" for part in ("start", "end")}
    assert "test/mse" in events.Tags()["scalars"]


def test_cross_domain_run(tmp_path, data_dir, capsys):
    words = ["run", "--env", "mini->cub", "--agent", "turtle", "--data-dir", data_dir, "--log-dir", tmp_path]
    assert main(*words, *sets(*TINY, *SMALL_NET, *IMAGES)) == 0
    result = result_of(only_run(tmp_path))
    assert (result["env"], result["metric"], result["bn"]) == ("mini->cub", "accuracy", "transductive")
    assert "test on cub: accuracy" in capsys.readouterr().out
    assert all(0 <= s <= 1 for s in result["scores"])


@pytest.mark.parametrize("agent", ["finetuning", "baseline++", "scratch", "chance"])
def test_agents_of_the_other_protocols(agent, tmp_path, data_dir):
    small = [] if agent == "chance" else ["agent.filters=4", "agent.adapt_steps=4"]
    words = ["run", "--env", "cub", "--agent", agent, "--data-dir", data_dir, "--log-dir", tmp_path]
    assert main(*words, *sets(*TINY, *IMAGES, *small)) == 0
    result = result_of(only_run(tmp_path))
    assert result["trained_tasks"] == (24 if agent in ("finetuning", "baseline++") else 0)
    if agent == "chance":
        assert result["mean"] == pytest.approx(1 / 3)


def test_all_agents_meet_the_same_test_episodes_and_seeds_differ(tmp_path):
    results = {}
    for agent, seed in (("maml", 0), ("maml", 1), ("fo-turtle", 0)):
        folder = tmp_path / f"{agent}{seed}"
        main("run", "--env", "sine", "--agent", agent, "--seed", seed, "--log-dir", folder, *sets(*TINY))
        results[agent, seed] = result_of(only_run(folder))
    assert len({r["episode_hash"] for r in results.values()}) == 1
    assert len({r["mean"] for r in results.values()}) == 3


def test_the_same_seed_gives_the_same_run(tmp_path):
    found = []
    for folder in ("a", "b"):
        main("run", "--env", "sine", "--agent", "turtle", "--seed", 5, "--log-dir", tmp_path / folder, *sets(*TINY))
        run = only_run(tmp_path / folder)
        found.append((result_of(run)["scores"], torch.load(run / "last.pt", weights_only=True)["agent"]["weights"]))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][k], found[1][1][k]) for k in found[0][1])


def validations(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["tasks"]: row["val/mse"] for row in rows if "val/mse" in row}


def test_best_by_validation_is_what_is_tested(tmp_path):
    main(*MAML, "--log-dir", tmp_path, *sets(*TINY, "agent.outer_lr=0.1", "train_tasks=96"))
    run = only_run(tmp_path)
    best, curve = torch.load(run / "best.pt", weights_only=True), validations(run)
    del curve[0]
    assert result_of(run)["best_at_tasks"] == best["tasks_seen"] == min(curve, key=curve.get) < 96


def test_untrained_weights_win_only_by_more_than_their_interval(tmp_path, capsys):
    """Between 0 and 12 tasks validation becomes a little worse here, and much worse with a larger step."""
    few = sets(*TINY, "train_tasks=12", "val_tasks=30")
    main(*MAML, "--log-dir", tmp_path / "close", *few, *sets("agent.outer_lr=1e-9"))
    close = only_run(tmp_path / "close")
    assert result_of(close)["best_at_tasks"] == 12
    assert "tested the weights after 0" not in capsys.readouterr().out
    main(*MAML, "--log-dir", tmp_path / "worse", *few, *sets("agent.outer_lr=3"))
    worse = only_run(tmp_path / "worse")
    assert result_of(worse)["best_at_tasks"] == 0
    assert validations(worse)[12] > validations(worse)[0]
    assert result_of(worse)["untrained"] == pytest.approx(validations(worse)[0])
    said = capsys.readouterr().out
    assert "; tested the weights after 0 of 12 tasks: validation was not clearly better after training" in said


def test_config_file_and_set_agree(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "env: sine\nagent: maml\nagent.inner_lr: 1e-3\nseed: 4\n" + "\n".join(p.replace("=", ": ") for p in TINY)
    )
    main("run", "--config", file, "--seed", 9, "--log-dir", tmp_path / "runs", *sets("agent.inner_steps=2"))
    settings = result_of(only_run(tmp_path / "runs"))["settings"]
    assert (settings["agent.inner_lr"], settings["agent.inner_steps"], settings["seed"]) == (0.001, 2, 9)


def test_a_custom_agent_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from agents.maml import MAML\nclass Mine(MAML):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    assert main("run", "--env", "sine", "--agent", "mine:Mine", "--log-dir", tmp_path / "runs", *sets(*TINY)) == 0
    assert result_of(only_run(tmp_path / "runs"))["agent"] == "mine:Mine"


@pytest.mark.slow
@pytest.mark.parametrize("env", ["sine:sine", "sine→sine", "sine->sine"])
def test_every_spelling_of_a_pair_can_be_tested_again(env, tmp_path):
    main("run", "--env", env, "--agent", "maml", "--log-dir", tmp_path, *sets(*TINY))
    run = only_run(tmp_path)
    assert main("eval", run) == 0
    assert main("eval", run, "--set", "agent.eval_steps=3") == 0
    assert len(list(run.glob("eval-sine-*.json"))) == 2


def test_noise_and_pretraining(tmp_path):
    words = ["run", "--env", "sine", "--agent", "finetuning", "--log-dir", tmp_path]
    assert main(*words, *sets(*TINY, "env.noise=0.1", "agent.adapt_steps=4")) == 0


def test_families_with_settings_of_their_own_pair(tmp_path, monkeypatch):
    (tmp_path / "line_env.py").write_text(
        "import fewshot_env\n"
        "from fewshot_env.sampler import TaskConfig\n"
        "from fewshot_env.sine import SineSampler\n"
        "fewshot_env.register(fewshot_env.EnvEntry('line', 'FewShot/Line-v0', 'line_env:Line', 'lines'))\n"
        "class LineConfig(TaskConfig):\n"
        "    slope: float = 1.0\n"
        "class Line:\n"
        "    Config = LineConfig\n"
        "    def __init__(self, **settings):\n"
        "        self.config, inner = LineConfig(**settings), SineSampler(n_query=9)\n"
        "        self.spec, self.support_size, self.query_size = inner.spec, 5, 9\n"
        "        self.fingerprint, self.sample = 'line', inner.sample\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["run", "--env", "sine->line_env:FewShot/Line-v0", "--agent", "maml", "--log-dir", tmp_path / "runs"]
    assert main(*words, *sets(*TINY)) == 0
    assert result_of(only_run(tmp_path / "runs"))["env"] == "sine->line_env:FewShot/Line-v0"


def test_another_process_finds_a_custom_environment(tmp_path, monkeypatch, capsys):
    (tmp_path / "bent_env.py").write_text(
        "import fewshot_env\n"
        "from fewshot_env.sine import SineSampler\n"
        "fewshot_env.register(fewshot_env.EnvEntry('bent', 'FewShot/Bent-v0', 'bent_env:Bent', 'bent sines'))\n"
        "class Bent(SineSampler):\n"
        "    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    for env in ("bent_env:FewShot/Bent-v0", "sine+bent_env:FewShot/Bent-v0->bent_env:FewShot/Bent-v0"):
        assert main("run", "--env", env, "--agent", "chance", "--log-dir", env[:4], *sets("test_tasks=4")) == 0
        run = only_run(tmp_path / env[:4])
        assert result_of(run)["env"] == env
        assert ":" not in run.name
        registry.ENVS.pop("bent")  # as in a process that has not imported the module
        gymnasium.registry.pop("FewShot/Bent-v0")
        sys.modules.pop("bent_env")
        capsys.readouterr()
        assert main("eval", run) == 2  # neither a file nor the folder of a run imports code by itself
        assert "if it is yours, allow it by name: --env bent_env:FewShot/Bent-v0" in capsys.readouterr().err
        assert "bent_env" not in sys.modules
        assert main("eval", run, "--env", env.split("+")[-1]) == 0
        assert json.loads(next(run.glob("eval-bent-*.json")).read_text())["scores"] == result_of(run)["scores"]


def test_eval_elsewhere(tmp_path, data_dir, capsys):
    words = ["run", "--env", "mini", "--agent", "maml", "--data-dir", data_dir, "--log-dir", tmp_path]
    main(*words, *sets(*TINY, *SMALL_NET, *IMAGES))
    run = only_run(tmp_path)
    assert main("eval", run) == 0
    again = json.loads(next(run.glob("eval-mini-*.json")).read_text())
    assert again["episode_hash"] == result_of(run)["episode_hash"]
    assert again["scores"] == result_of(run)["scores"]
    assert main("eval", run, "--env", "cub", "--tasks", 5, "--set", "agent.eval_steps=3") == 0
    other = json.loads(next(run.glob("eval-cub-*.json")).read_text())
    assert len(other["scores"]) == 5
    assert other["settings"]["agent.eval_steps"] == 3
    assert "test on mini->cub: accuracy" in capsys.readouterr().out
    assert main("eval", run, "--env", "sine") == 2


@pytest.mark.parametrize("text", ["agent:\n  innr_lr: 1\n", "env: {noise: 5}\n", '{"agent": {"inner_lr": 1}}'])
def test_nested_settings_are_refused_not_ignored(text, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    words = ["run", "--env", "sine", "--agent", "maml", "--config", tmp_path / "c.yaml", "--log-dir", tmp_path]
    assert main(*words) == 2
    error = capsys.readouterr().err
    assert "settings are flat" in error
    assert error.count("\n") == 1
    assert [*tmp_path.iterdir()] == [tmp_path / "c.yaml"]
