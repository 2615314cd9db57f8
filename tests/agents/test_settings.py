"""Agents built from Python with wrong settings, specs and names: one line that says what was meant."""

import pytest

import agents
from agents.base import AgentConfig
from agents.maml import MAML, MAMLConfig
from agents.turtle import Turtle, TurtleConfig
from fewshot_env.errors import FewShotError, SettingError
from tests.helpers.agents import SINE


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: agents.make("maml", SINE, inner_lrr=1), "unknown setting 'inner_lrr' (did you mean 'inner_lr'?); "),
        (lambda: agents.make(MAML, SINE, inner_lrr=1), "unknown setting 'inner_lrr' (did you mean 'inner_lr'?); "),
        (lambda: agents.make("maml", SINE, inner_lr="x"), "setting inner_lr is 'x', but: it must be a number above 0"),
        (lambda: agents.make("turtle", SINE, history="none "), "setting history is 'none ', but: it must be one of"),
        (lambda: MAML(SINE, MAMLConfig(inner_lrr=1)), "unknown setting 'inner_lrr' (did you mean 'inner_lr'?); "),
        (lambda: Turtle(SINE, TurtleConfig(beta=2)), "setting beta is 2, but: it must be a number from 0 to 1"),
        (lambda: MAMLConfig(eval_steps="none"), "setting eval_steps is 'none', but: it must be a whole number from"),
        (lambda: MAMLConfig(hidden=[40, 0]), "setting hidden.1 is 0, but: it must be a whole number from 1 to 1000000"),
        (lambda: AgentConfig(outer_lr=None), "setting outer_lr is None, but: it must be a number above 0"),
    ],
)  # fmt: skip
def test_wrong_settings(build, message):
    with pytest.raises(SettingError) as error:
        build()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: agents.make("mamll", SINE), "unknown agent 'mamll' (did you mean 'maml'?); known: "),
        (lambda: agents.make(3, SINE), "3 is not an agent; give a name, or a class derived from agents.base.Agent"),
        (lambda: agents.make(MAMLConfig, SINE), "MAMLConfig'> is not an agent; give a name, or a class derived from"),
        (lambda: agents.make("maml", "sine"), "spec is a str, but must be a TaskSpec: the unwrapped.task_spec of an"),
        (lambda: MAML("sine", MAMLConfig()), "spec is a str, but must be a TaskSpec: the unwrapped.task_spec of an"),
        (
            lambda: MAML(SINE, {"inner_lr": 1}),
            "MAML takes its settings as MAMLConfig(...), but got dict; agents.make builds both",
        ),
        (
            lambda: MAML(SINE, AgentConfig()),
            "MAML takes its settings as MAMLConfig(...), but got AgentConfig; agents.make builds both",
        ),
    ],
)
def test_what_is_no_agent_no_spec_and_no_settings(build, message):
    with pytest.raises(FewShotError) as error:
        build()
    assert message in str(error.value)


def test_the_papers_settings_of_a_class_that_fails():
    class Config(MAMLConfig):
        @classmethod
        def paper(cls, spec, n_shot):
            raise KeyError("no such thing")

    class Fails(MAML):
        pass

    Fails.Config = Config
    with pytest.raises(FewShotError, match=r"Fails.Config.paper fails: KeyError: 'no such thing' \(test_sett"):
        agents.make(Fails, SINE)
