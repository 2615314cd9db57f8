"""A method owns its meta-gradient, and the engine the outer step around it: parts, processes, seeds, refusals."""

import os
import re
import subprocess
import sys

import pytest
import torch

import agents
from agents.base import Agent
from agents.check import check_agent
from agents.engine.stack import Stack, can_stack
from agents.maml import MAML
from fewshot_env.errors import FewShotError
from fewshot_env.sine import SineSampler
from tests.helpers.agents import IMAGES, SINE, batch_of_tasks, joined, tasks_for
from tests.helpers.cli import ROOT, only_run

PAGE = (ROOT / "docs" / "new-agent.md").read_text()
(CODE,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class Reptile" in block]
SETTINGS = {"inner_steps": 3, "inner_lr": 0.1, "outer_lr": 0.5}


@pytest.fixture(scope="module")
def reptile():
    names = {"__name__": "reptile"}
    exec(CODE, names)
    return names["Reptile"]


def step(agent, task):
    adapted = agent.adapt(task.support)
    return agent.meta_update(agent.predict(adapted, task.query.x), task.query.y, adapted)


def test_the_documented_reptile_is_short():
    assert len([line for line in CODE.splitlines() if line.strip()]) < 25


@pytest.mark.parametrize(("spec", "small"), [(SINE, {"hidden": (6,)}), (IMAGES, {"filters": 3, "padding": 1})])
def test_reptile_moves_towards_the_adapted_weights_of_all_tasks(reptile, spec, small, float64):
    """Against a plain loop; on Conv4 the four tasks come one by one."""
    torch.manual_seed(0)
    agent = agents.make(reptile, spec, **small, **SETTINGS).double().train()
    task, theta = batch_of_tasks(spec, tasks=4), agent.initialization.detach()[0].clone()
    objective = agent.net.objective(spec, task.support, None)
    params = theta.expand(4, -1)
    for _ in range(3):
        params = params - 0.1 * objective.gradient(params)[0].clamp(-10, 10)
    wanted = (theta - params).sum(0)
    for b in range(4):
        adapted = agent.adapt(task.support[b : b + 1])
        assert not adapted.params.requires_grad
        agent.outer.add(adapted, agent.predict(adapted, task.query.x[b : b + 1]), task.query.y[b : b + 1])
    assert torch.allclose(agent.initialization.grad[0], wanted, atol=1e-12)
    agent.outer.finish()
    assert torch.allclose(agent.initialization[0], theta - 0.5 * wanted, atol=1e-12)


@pytest.mark.parametrize("kind", ["sine", "images"])
def test_reptile_keeps_the_contract(reptile, kind, small_store):
    spec, train, test = tasks_for(kind, 0, small_store)
    settings = {"filters": 8, "padding": 1, "outer_lr": 0.1, "inner_lr": 0.01}
    check_agent(lambda: agents.make(reptile, spec, n_shot=2, **settings), train, test, steps=10)


def test_reptile_beside_another_seed_is_what_it_is_alone(reptile):
    members = [agents.make(reptile, SINE, hidden=(6,), **SETTINGS).train() for _ in range(2)]
    assert all(can_stack(member) for member in members)
    tasks = [batch_of_tasks(SINE, tasks=3, seed=seed) for seed in (1, 2)]
    stack = Stack(members)

    both = joined(tasks)
    adapted = stack.agent.adapt(both.support)
    stack.agent.outer.add(adapted, stack.agent.predict(adapted, both.query.x), both.query.y)
    stack.finish_step()
    for run, (agent, task) in enumerate(zip(members, tasks, strict=True)):
        step(agent, task)
        assert torch.allclose(agent.initialization, stack.member(run).initialization, atol=1e-6)


@pytest.mark.slow
def test_reptile_from_the_page_on_images_with_processes_and_seeds(tmp_path):
    (tmp_path / "reptile.py").write_text(CODE)
    base = "run --env glyphs --agent reptile:Reptile --meta-batch 4 --tasks 8 --n-query 2 --n-way 3"
    base += " --set agent.filters=4 --set agent.inner_steps=1 --set val_tasks=2 --set test_tasks=4 --set eval_batch=2"
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    weights = {}
    for name, more in (("alone", []), ("processes", ["--processes", "2"]), ("seeds", ["--seeds", "2"])):
        words = [sys.executable, "-m", "runners", *base.split(), *more, "--log-dir", str(tmp_path / name)]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        run = only_run(tmp_path / name)
        content = torch.load((run / "seed0" if name == "seeds" else run) / "last.pt", weights_only=True)
        weights[name] = content["agent"]["weights"]["initialization"]
    for name in ("processes", "seeds"):
        assert torch.allclose(weights[name], weights["alone"], atol=1e-5), name


def overriding(**methods):
    return type("Own", (MAML,), methods)


def test_what_would_be_bypassed_is_refused():
    for name, advice in (("meta_update", "override meta_gradient"), ("accumulate", "override meta_gradient")):
        with pytest.raises(FewShotError, match=f"Own overrides {name}, which training does not call; {advice}"):
            agents.make(overriding(**{name: lambda self, *_: {}}), SINE)


def test_a_method_that_changes_what_is_computed_is_not_stacked_unless_it_says_so():
    assert not agents.make(overriding(meta_gradient=lambda self, a, p, y: p), SINE).stackable
    assert overriding(meta_gradient=lambda self, a, p, y: p, stackable=True).stackable
    assert overriding(charts=lambda self, support: {}).stackable


def test_wrong_meta_gradients_are_one_line():
    task = batch_of_tasks(SINE)
    whole = agents.make(overriding(meta_gradient=lambda self, a, p, y: self.spec.loss(p, y).sum()), SINE).train()
    with pytest.raises(FewShotError, match=r"Own.meta_gradient returns \(\), but must return the losses"):
        step(whole, task)
    nothing = agents.make(overriding(meta_gradient=lambda self, a, p, y: self.spec.loss(p, y)), SINE).train()
    with pytest.raises(FewShotError, match="left no gradient on any parameter; call backward"):
        step(nothing, task)
    with pytest.raises(FewShotError, match=r"call meta_update\(predictions, query_y, adapted\)"):
        nothing.meta_update(nothing.predict(nothing.adapt(task.support), task.query.x), task.query.y)


def test_check_agent_finds_a_meta_gradient_that_is_not_a_sum(small_store):
    spec, train, test = tasks_for("sine", 0, small_store)

    def mean(self, adapted, predictions, query_y):
        losses = self.spec.loss(predictions, query_y)
        losses.mean().backward()
        return losses

    with pytest.raises(AssertionError, match="in parts must be that of the whole"):
        check_agent(lambda: agents.make(overriding(meta_gradient=mean), spec), train, test)


def test_check_agent_finds_seeds_that_touch(small_store):
    spec, train, test = tasks_for("sine", 0, small_store)

    def of_all(self, adapted, predictions, query_y):
        (self.initialization * (self.initialization.unsqueeze(1) - adapted.params).sum(1).detach()).sum().backward()
        return self.spec.loss(predictions, query_y)

    own = overriding(meta_gradient=of_all, stackable=True)
    with pytest.raises(AssertionError, match="must not depend on the one beside it"):
        check_agent(lambda: agents.make(own, spec), train, test)


def test_the_base_class_sets_the_grad_mode():
    class Plain(Agent):
        def __init__(self, spec, config):
            super().__init__(spec, config)
            self.linear = torch.nn.Linear(1, 1)

        def adapt(self, support):
            return self.linear(support.x)

        def predict(self, adapted, query_x):
            return self.linear(query_x)

    x = SineSampler().sample([1]).support
    agent = Plain(SineSampler().spec, Plain.Config())
    assert agent.train().adapt(x).requires_grad
    assert not agent.eval().adapt(x).requires_grad
    Plain.differentiates_adaptation = False
    assert not agent.train().adapt(x).requires_grad
    assert agent.predict(None, x.x).requires_grad


def test_what_a_mixin_changes_counts_and_carries_no_graph_in_eval_mode():
    class Louder:
        def predict(self, adapted, query_x):
            return 2 * self.loudness * super().predict(adapted, query_x)

    class Mixed(Louder, MAML):
        def __init__(self, spec, config):
            super().__init__(spec, config)
            self.loudness = torch.nn.Parameter(torch.tensor(1.0))

    agent, task = agents.make(Mixed, SINE, hidden=(6,)), batch_of_tasks(SINE)
    assert not agent.stackable
    assert not agent.eval().predict(agent.adapt(task.support), task.query.x).requires_grad
    check_agent(lambda: agents.make(Mixed, SINE, hidden=(6,), outer_lr=0.01), task, task, steps=5)  # a parameter []


def test_an_optimizer_that_training_would_not_use_is_refused():
    class Sets(MAML):
        def __init__(self, spec, config):
            super().__init__(spec, config)
            self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

    agent, task = agents.make(Sets, SINE).train(), batch_of_tasks(SINE)
    with pytest.raises(FewShotError, match="Sets sets optimizer, which training does not use; override make_optimizer"):
        step(agent, task)


def test_stacked_seeds_with_momentum_go_on():
    class Momentum(MAML):
        stackable = True

        def make_optimizer(self):
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    stack = Stack([agents.make(Momentum, SINE, hidden=(6,)).train() for _ in range(2)])
    task = joined([batch_of_tasks(SINE, seed=seed) for seed in (1, 2)])
    for _ in range(2):
        adapted = stack.agent.adapt(task.support)
        stack.agent.outer.add(adapted, stack.agent.predict(adapted, task.query.x), task.query.y)
        stack.finish_step()
    again = Stack([agents.make(Momentum, SINE, hidden=(6,)).train() for _ in range(2)])
    again.load_states([stack.state(run) for run in range(2)])
    for one in (stack, again):
        adapted = one.agent.adapt(task.support)
        one.agent.outer.add(adapted, one.agent.predict(adapted, task.query.x), task.query.y)
        one.finish_step()
    assert torch.equal(stack.agent.initialization, again.agent.initialization)


def test_processes_whose_tasks_use_different_parameters():
    """Every process sums over the same parameters; one that none of its tasks used adds zero."""
    agent, task = agents.make("maml", SINE, hidden=(6,)).train(), batch_of_tasks(SINE)
    agent.unused = torch.nn.Parameter(torch.ones(3))
    agent._outer = None
    summed = []
    adapted = agent.adapt(task.support)
    agent.outer.add(adapted, agent.predict(adapted, task.query.x), task.query.y)
    agent.outer.finish(lambda tensors: summed.extend(t.shape for t in tensors))
    assert torch.Size([3]) in summed
    assert torch.equal(agent.unused, torch.ones(3))
