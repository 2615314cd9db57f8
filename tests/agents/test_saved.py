"""A trained agent is a file: loaded without environment, data or runner; a file never imports code."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

import agents
from agents.maml import MAML
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError
from tests.helpers.agents import IMAGES, SINE, batch_of_tasks, make_agent
from tests.helpers.cli import IMAGES as TASKS
from tests.helpers.cli import ROOT, SMALL_NET, TINY, main, only_run, sets


class Own(MAML):
    pass


@dataclass(frozen=True)
class Huber(TaskSpec):
    def loss(self, predictions, targets):
        return torch.nn.functional.huber_loss(predictions, targets, reduction="none").mean((1, 2))


def answers(agent, task):
    agent.eval()
    return agent.predict(agent.adapt(task.support), task.query.x)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", ["maml", "turtle", "lstm", "finetuning", "baseline++", "scratch", "chance"])
def test_saved_and_loaded(name, kind, tmp_path):
    spec = {"mlp": SINE, "conv": IMAGES}[kind]
    agent = agents.make(name, spec) if name == "chance" else make_agent(name, kind)
    agents.save(agent, tmp_path / "agent.pt")
    rng = torch.get_rng_state()
    again = agents.load(tmp_path / "agent.pt")
    assert torch.equal(rng, torch.get_rng_state())
    assert (again.name, again.config, again.spec, again.training) == (agent.name, agent.config, agent.spec, False)
    task = batch_of_tasks(spec)
    assert torch.equal(answers(agent, task), answers(again, task))


def test_a_runs_checkpoint_needs_neither_data_nor_runner(tmp_path, data_dir):
    words = ["run", "--env", "mini", "--agent", "maml", "--data-dir", data_dir, "--log-dir", tmp_path / "runs"]
    assert main(*words, *sets(*TINY, *SMALL_NET, *TASKS, "train_tasks=4")) == 0
    file = only_run(tmp_path / "runs") / "best.pt"
    code = (
        "import sys; sys.modules['runners'] = None\n"
        "import agents, torch\n"
        f"agent = agents.load({str(file)!r}, eval_steps=2)\n"
        "x = torch.rand(3, 3, 84, 84)\n"
        "labels = agent.act({'support_x': x.numpy(), 'support_y': torch.arange(3).numpy(), 'query_x': x.numpy()})\n"
        "print(labels.shape, agent.config.eval_steps, agent.spec.class_names[0], agent.spec.in_shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(3,) 2 n0")
    assert done.stdout.endswith("(3, 84, 84)\n")


def test_classes_of_the_caller_are_passed_and_never_imported(tmp_path):
    agent, file = agents.make(Own, SINE, inner_lr=0.3), tmp_path / "own.pt"
    agents.save(agent, file)
    with pytest.raises(FewShotError, match=r"an agent of the class tests.agents.test_saved:Own, and a file never"):
        agents.load(file)
    assert agents.load(file, cls=Own).config.inner_lr == 0.3
    huber = Huber(**{name: getattr(SINE, name) for name in TaskSpec.__dataclass_fields__})
    agents.save(agents.make("maml", huber), file)
    with pytest.raises(FewShotError, match=r"described by the class tests.agents.test_saved:Huber, and a file never"):
        agents.load(file)
    assert agents.load(file, spec=huber).spec is huber


def test_what_is_wrong_is_one_line(tmp_path):
    agents.save(agents.make("maml", SINE), tmp_path / "agent.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04")
    torch.save({"format": "fewshot-checkpoint", "version": 1, "agent": {}}, tmp_path / "old.pt")
    for file, changes, message in (
        ("absent.pt", {}, "there is no checkpoint"),
        ("damaged.pt", {}, "is damaged or not one of ours"),
        ("old.pt", {}, r"load it from its run's folder: runners.load\('"),
        ("agent.pt", {"inner_lrr": 1}, r"unknown setting 'inner_lrr' \(did you mean 'inner_lr'\?\)"),
        ("agent.pt", {"hidden": (3,)}, r"do not fit the changes \(hidden\)"),
        ("agent.pt", {"inner_lr": -1}, "setting inner_lr is -1, but"),
    ):
        with pytest.raises(FewShotError, match=message) as error:
            agents.load(tmp_path / file, **changes)
        assert "\n" not in str(error.value)
    with pytest.raises(FewShotError, match=r"unknown setting 'inner_lrr' \(did you mean 'inner_lr'\?\)"):
        agents.make("maml", SINE, inner_lrr=1)
