"""Schedules that last as long as the run: its number of outer steps is known before training, and saved."""

import pytest

from runners.config.plan import make_plan


@pytest.mark.parametrize(
    ("tasks", "meta_batch", "steps"), [(100, 4, 25), (101, 4, 26), (3_000_000, 1, 3_000_000), (0, 4, 1)]
)
def test_a_runs_settings_hold_its_outer_steps_and_are_valid_settings(tasks, meta_batch, steps):
    given = {"env": "sine", "agent": "maml++", "train_tasks": tasks, "agent.meta_batch": meta_batch}
    plan = make_plan(given)
    assert plan.settings["agent.schedule_steps"] == steps
    assert make_plan(plan.settings).settings == plan.settings
    assert make_plan(given | {"agent.schedule_steps": 7}).settings["agent.schedule_steps"] == 7
    assert make_plan(plan.settings | {"train_tasks": 2 * tasks}).settings["agent.schedule_steps"] == steps


def test_other_agents_have_none():
    assert not any("schedule" in key for key in make_plan({"env": "sine", "agent": "maml"}).settings)
