"""What a family samples is compared with its spec once; several outputs and a loss of its own work everywhere."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
import torch

import agents
from fewshot_env import EnvEntry, register
from fewshot_env.episode import Episode, Split, TaskSpec
from fewshot_env.errors import FewShotError
from fewshot_env.mixture import mixture_of
from fewshot_env.rng import uniforms
from fewshot_env.sampler import TaskConfig, build_sampler
from fewshot_env.vector import FewShotVectorEnv
from tests.helpers.agents import batch_of_tasks
from tests.helpers.cli import TINY, main, only_run, result_of, sets


class Pair:
    """y = (a x, a x^2): regression with two outputs."""

    Config = TaskConfig
    spec = TaskSpec("regression", (1,), 2, 1, (-1.0, 1.0), (-2.0, 2.0))
    fingerprint = "pair-v0"

    def __init__(self, **settings):
        self.config = TaskConfig(**settings)
        self.support_size, self.query_size = (0, self.config.minibatch) if self.config.minibatch else (6, 9)

    def sample(self, task_seeds):
        u = torch.from_numpy(uniforms(task_seeds, 16 + self.config.minibatch).astype(np.float32))
        s = self.support_size
        x = 2 * u[:, 1 : 1 + s + self.query_size, None] - 1
        y = (1 + u[:, :1, None]) * torch.cat([x, x**2], -1)
        return Episode(Split(x[:, :s], y[:, :s]), Split(x[:, s:], y[:, s:]))


def changed(**parts):
    """A family that samples something else than its spec says."""

    class Changed(Pair):
        def sample(self, task_seeds):
            task = super().sample(task_seeds)
            split = {name: parts.get(name, lambda v: v) for name in ("x", "y")}
            return Episode(*[Split(split["x"](part.x), split["y"](part.y)) for part in (task.support, task.query)])

    return Changed


WRONG = {
    r"Changed samples a support x of torch.float64, but must be torch.float32": changed(x=lambda x: x.double()),
    r"support x of shape \[2, 6, 1, 1\], but its spec says \[B, 6, 1\]": changed(x=lambda x: x.unsqueeze(-1)),
    r"support x of shape \[2, 5, 1\], but its spec says \[B, 6, 1\]": changed(x=lambda x: x[:, 1:]),
    r"support y of shape \[2, 6\], torch.float32, but values are torch.float32 \[2, 6, 2\]": changed(
        y=lambda y: y[..., 0]
    ),
    r"support y of shape \[2, 6, 2\], torch.float64, but values are": changed(y=lambda y: y.double()),
    r"support x that is not finite; mend the sampler": changed(x=lambda x: x * torch.nan),
    r"support x from .* to .*, but spec.x_range is \(-1.0, 1.0\); widen it": changed(x=lambda x: 7 * x),
    r"query y from .* to .*, but spec.y_range is \(-2.0, 2.0\); widen it": changed(y=lambda y: 7 * y),
    r"Labels samples a support y from 0 to 3, but labels lie in \[0, 2\): spec.n_outputs": type(
        "Labels",
        (Pair,),
        {
            "spec": TaskSpec("classification", (1,), 2, 2, (-1.0, 1.0), (0, 1)),
            "sample": lambda self, seeds: Episode(
                *[
                    Split(part.x, torch.arange(part.x.shape[1]).remainder(4).expand(len(seeds), -1))
                    for part in (Pair.sample(self, seeds).support, Pair.sample(self, seeds).query)
                ]
            ),
        },
    ),
    r"spec.kind is 'ranking', but must be": type(
        "Kind", (Pair,), {"spec": TaskSpec("ranking", (1,), 2, 1, (-1.0, 1.0), (-2.0, 2.0))}
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_off_is_one_line_at_the_first_sample(message):
    family = WRONG[message]
    with pytest.raises(FewShotError, match=message) as error:
        FewShotVectorEnv(family(), 2).reset(seed=0)
    assert "\n" not in str(error.value)


def test_it_is_said_before_a_run_writes_anything(tmp_path, capsys, monkeypatch):
    (tmp_path / "wide.py").write_text(
        "from fewshot_env.sine import SineSampler\n"
        "class Wide(SineSampler):\n"
        "    def sample(self, task_seeds):\n"
        "        task = super().sample(task_seeds)\n"
        "        object.__setattr__(task.support, 'x', task.support.x.double())\n"
        "        return task\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main("run", "--env", "wide:Wide", "--agent", "maml", "--log-dir", tmp_path / "runs") == 2
    assert capsys.readouterr().err == ("fsl: Wide samples a support x of torch.float64, but must be torch.float32\n")
    assert not (tmp_path / "runs").exists()


def test_a_family_is_compared_once():
    counted = changed()
    calls = []
    counted.sample = lambda self, seeds, sample=counted.sample: calls.append(1) or sample(self, seeds)
    env = FewShotVectorEnv(counted(), 2)
    for _ in range(3):
        env.reset(seed=0)
    assert len(calls) == 3


def test_a_sampler_that_cannot_be_hashed_and_one_without_a_fingerprint():
    unhashable = changed()
    unhashable.__hash__ = None
    FewShotVectorEnv(unhashable(), 2).reset(seed=0)
    nameless = type("Nameless", (), {k: v for k, v in vars(Pair).items() if k != "fingerprint"})
    with pytest.raises(FewShotError, match=r"'Nameless' is not a TaskSampler .*: no fingerprint"):
        build_sampler(nameless, {})


def test_a_mixture_keeps_the_loss_of_its_families():
    huber = Huber(**{name: getattr(Pair.spec, name) for name in TaskSpec.__dataclass_fields__})
    other = type("Other", (Pair,), {"spec": huber})
    assert type(mixture_of({"a": other, "b": other})().spec) is Huber
    with pytest.raises(FewShotError, match="mixes tasks with different losses: Huber and TaskSpec"):
        mixture_of({"a": other, "b": Pair})()


@pytest.mark.parametrize("in_shape", ["touch OWNED", (3, "x"), [3], (0,)])
def test_a_spec_says_what_its_items_are(in_shape):
    with pytest.raises(FewShotError, match=r"TaskSpec.in_shape is .*, but must be a tuple of positive whole numbers"):
        TaskSpec("regression", in_shape, 1, 1, (0, 1), (0, 1))


@pytest.mark.parametrize("agent", ["maml", "turtle", "lstm", "finetuning", "scratch", "chance"])
def test_two_outputs_are_trained_drawn_and_tested(agent, tmp_path):
    """Pictures at every validation and after the test, the projector, and the page of the report."""
    words = ["run", "--env", "tests.fewshot_env.test_conformance:Pair", "--agent", agent, "--log-dir", tmp_path]
    assert main(*words, *sets(*TINY)) == 0
    run = only_run(tmp_path)
    assert result_of(run)["metric"] == "mse"
    assert main("eval", run) == 0
    assert main("report", run) == 0


def test_two_outputs_in_both_environments():
    register(EnvEntry("pair-of-tests", "FewShot/PairOfTests-v0", Pair.__module__ + ":Pair", "two outputs"))
    env = gymnasium.make("FewShot/PairOfTests-v0", render_mode="rgb_array")
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    assert env.action_space.shape == (9, 2)
    _, reward, *_, info = env.step(np.zeros((9, 2), np.float32))
    assert reward == pytest.approx(-float((info["query_y"] ** 2).mean()))
    assert env.render().shape[2] == 3


@dataclass(frozen=True)
class Huber(TaskSpec):
    def loss(self, predictions, targets):
        return torch.nn.functional.huber_loss(predictions, targets, reduction="none", delta=0.1).mean((1, 2))


@pytest.mark.parametrize("name", ["maml", "turtle", "lstm-enhanced", "scratch"])
def test_an_overridden_loss_is_honoured_inside_the_loop(name, float64):
    """Meta-gradient and adapted weights against a plain loop that uses the same loss."""
    spec = Huber("regression", (1,), 2, 1, (-5, 5), (-10, 10))
    torch.manual_seed(0)
    settings = {"hidden": (6, 5)} | ({} if name == "scratch" else {"inner_steps": 2})
    agent = agents.make(name, spec, **settings).double().train()
    task = batch_of_tasks(spec)
    task = Episode(*[Split(part.x, torch.cat([part.y, part.y**2], -1)) for part in (task.support, task.query)])
    if name == "scratch":
        adapted = agent.eval().adapt(task.support)
        losses = agent.spec.loss(agent.net(adapted.params, task.support.x), task.support.y)
        assert torch.allclose(losses, adapted.losses.amin(1), atol=1e-12)
        return
    grads, losses = agent.net.objective(spec, task.support, None).gradient(agent.initialization.detach().expand(2, -1))
    theta = agent.initialization.detach().expand(2, -1).clone().requires_grad_()
    plain = spec.loss(agent.net(theta, task.support.x), task.support.y)
    (wanted,) = torch.autograd.grad(plain.sum(), theta)
    assert torch.allclose(grads, wanted, atol=1e-12)
    assert torch.allclose(losses, plain, atol=1e-12)
    if name != "maml":
        return
    start = agent.initialization
    adapted, total = start.expand(2, -1), 0
    for _ in range(2):
        loss = spec.loss(agent.net(adapted, task.support.x), task.support.y)
        (grad,) = torch.autograd.grad(loss.sum(), adapted, create_graph=True)
        adapted = adapted - agent.config.inner_lr * grad
    total = spec.loss(agent.net(adapted, task.query.x), task.query.y).sum()
    (wanted,) = torch.autograd.grad(total, start)
    predictions = agent.predict(agent.adapt(task.support), task.query.x)
    (got,) = torch.autograd.grad(spec.loss(predictions, task.query.y).sum(), start)
    assert torch.allclose(got, wanted, atol=1e-10)
