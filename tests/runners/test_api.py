"""The Python API does what the commands do."""

import json
import os
import signal
import threading

import pytest
import torch

import runners
from agents.chance import Chance
from agents.maml import MAML
from fewshot_env.errors import FewShotError
from fewshot_env.sine import SineSampler
from runners.training import trainer as train
from tests.helpers.cli import main, only_run, result_of

TINY = {"train_tasks": 24, "val_every": 12, "val_tasks": 4, "test_tasks": 6}


class Own(Chance):
    """An agent defined where it is used, as in a notebook."""


def test_run_is_fsl_run(tmp_path):
    done = runners.run("sine", "maml", TINY | {"seed": 3, "agent.inner_lr": 0.02}, log_dir=tmp_path / "api")
    assert done.folder == only_run(tmp_path / "api")
    assert done.result == result_of(done.folder)
    sets = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    words = ["--env", "sine", "--agent", "maml", "--seed", "3", "--set", "agent.inner_lr=0.02", *sets]
    assert main("run", *words, "--log-dir", tmp_path / "cli") == 0
    timed = {"seconds": None}
    assert result_of(only_run(tmp_path / "cli")) | timed == done.result | timed


def test_test_and_load(tmp_path):
    done = runners.run("sine", "maml", TINY, log_dir=tmp_path)
    again = runners.evaluate(done.folder)
    assert again["scores"] == done.result["scores"]
    assert runners.evaluate(done.folder, settings={"test_tasks": 3})["scores"] == pytest.approx(
        done.result["scores"][:3], rel=1e-4
    )
    agent = runners.load(done.folder)
    best = torch.load(done.folder / "best.pt", weights_only=True)["agent"]["weights"]
    assert not agent.training
    assert all(torch.equal(best[name], value) for name, value in agent.state_dict().items())


def test_a_class_is_an_agent(tmp_path):
    done = runners.run("glyphs", Own, {"test_tasks": 4}, "quick", tmp_path)
    assert done.result["agent"] == f"{__name__}:Own"
    assert json.loads((done.folder / "config.json").read_text())["settings"]["train_tasks"] == 0


class Short(SineSampler):
    """A family of tasks defined where it is used."""


def test_a_sampler_class_is_an_environment(tmp_path):
    done = runners.run(Short, "maml", TINY, log_dir=tmp_path)
    assert done.result["env"] == f"{__name__}:Short"
    assert runners.evaluate(done.folder)["scores"] == done.result["scores"]
    assert main("run", "--env", f"{__name__}:Short->sine", "--agent", "chance", "--log-dir", tmp_path / "pair") == 0
    assert main("run", "--env", f"sine->{__name__}:Short", "--agent", "chance", "--log-dir", tmp_path / "other") == 0


def test_a_moved_run_needs_neither_its_environment_nor_its_data(tmp_path, monkeypatch):
    done = runners.run("glyphs", "maml", {**TINY, "train_tasks": 0, "agent.filters": 4}, log_dir=tmp_path / "runs")
    moved = done.folder.rename(tmp_path / "elsewhere")
    monkeypatch.setattr("runners.evaluation.retest.make_plan", lambda *_: pytest.fail("the environment was asked for"))
    assert runners.load(moved).spec.class_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "sinus"}, "unknown environment 'sinus' .did you mean 'sine'"),
        ({"agent": "meml"}, "unknown agent 'meml'"),
        ({"agent": int}, "is not an agent"),
        ({"preset": "fast"}, "the preset is 'fast', but must be paper or quick"),
        ({"settings": {"train_task": 3}}, "unknown setting 'train_task'"),
        ({"settings": {"agent.inner_lr": -1}}, "setting agent.inner_lr is -1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, arguments, message):
    with pytest.raises(FewShotError, match=message):
        runners.run(**{"env": "sine", "agent": "maml", "log_dir": tmp_path / "runs"} | arguments)
    assert not (tmp_path / "runs").exists()


def test_bad_folders(tmp_path):
    with pytest.raises(FewShotError, match="is not the folder of a run"):
        runners.load(tmp_path)
    with pytest.raises(FewShotError, match="is not the folder of a run"):
        runners.evaluate(tmp_path)


def test_an_interrupt_stops_it_and_it_can_be_resumed(tmp_path, monkeypatch):
    whole = train.outer_step

    def interrupted(*arguments, **more):
        os.kill(os.getpid(), signal.SIGINT)
        return whole(*arguments, **more)

    monkeypatch.setattr(train, "outer_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runners.run("sine", "maml", TINY, log_dir=tmp_path)
    monkeypatch.undo()
    assert main("run", "--resume", only_run(tmp_path)) == 0
    assert result_of(only_run(tmp_path))["trained_tasks"] == 24


def test_in_other_threads_one_after_another(tmp_path):
    """Signals belong to the main thread, and torch's random numbers to all: runs take turns, and give the same."""
    settings = {"train_tasks": 24, "val_every": 12, "val_tasks": 6, "test_tasks": 8}
    alone = [runners.run("sine", "maml", settings | {"seed": seed}, log_dir=tmp_path).result for seed in (1, 2)]
    found: dict[int, object] = {}

    def act(seed):
        done = runners.run("sine", "maml", settings | {"seed": seed}, log_dir=tmp_path)
        found[seed] = (done.result["scores"], runners.evaluate(done.folder)["scores"], runners.load(done.folder))

    threads = [threading.Thread(target=act, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, before in zip((1, 2), alone, strict=True):
        scores, again, agent = found[seed]
        assert scores == again == before["scores"]
        assert not agent.training


def test_the_callers_torch_is_left_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        done = runners.run("sine", "maml", {"train_tasks": 4, "val_tasks": 2, "test_tasks": 4}, log_dir=tmp_path)
        runners.load(done.folder)
        runners.evaluate(done.folder)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.rand(3), expected)
    finally:
        torch.set_num_threads(threads)


class FailsAtOnce(MAML):
    def adapt(self, support):
        raise KeyError("broken")


class FailsLater(MAML):
    def adapt(self, support):
        if self.training:
            self.seen = getattr(self, "seen", 0) + 1
            if self.seen > 20:
                raise KeyError("broken")
        return super().adapt(support)


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path):
    settings = {"train_tasks": 24, "val_every": 12, "val_tasks": 6, "test_tasks": 8, "agent.meta_batch": 1}
    with pytest.raises(FewShotError, match=r"failed: KeyError.* and start the run again"):
        runners.run("sine", FailsAtOnce, settings, log_dir=tmp_path / "r")
    assert [*(tmp_path / "r").iterdir()] == []
    with pytest.raises(FewShotError, match=r"failed: KeyError.* then continue with: fsl run --resume"):
        runners.run("sine", FailsLater, settings, log_dir=tmp_path / "r")
    (kept,) = (tmp_path / "r").iterdir()
    assert (kept / "last.pt").exists()


@pytest.mark.parametrize("settings", [{"agent": "turtle"}, {"agent": {"inner_lr": 1}}, {"env": "glyphs"}])
def test_what_the_arguments_say_is_not_said_otherwise_by_settings(settings, tmp_path):
    with pytest.raises(FewShotError, match="its settings are flat keys"):
        runners.run("sine", "maml", settings, log_dir=tmp_path)
    assert not [*tmp_path.iterdir()]
