"""What the synthetic data sets are for: meta-learning helps on them, and does not carry over to the other one."""

import pytest

from tests.helpers.cli import main, only_run, result_of, sets

pytestmark = pytest.mark.slow

SMALL = sets("agent.filters=32", "test_tasks=40", "val_every=400", "val_tasks=10", "log_every=100")


def run(folder, env, agent, tasks, *more):
    words = ["run", "--env", env, "--agent", agent, "--tasks", tasks, "--log-dir", folder, *SMALL, *more]
    assert main(*words) == 0
    return result_of(only_run(folder))


def interval(result):
    return result["mean"] - result["ci95"], result["mean"] + result["ci95"]


def test_meta_learning_helps_and_only_where_it_was_done(tmp_path):
    """With intervals apart: MAML after 240 tasks beats training from scratch, and MAML from the other domain."""
    maml = run(tmp_path / "glyphs", "glyphs", "maml", 240)
    scratch = run(tmp_path / "scratch", "glyphs", "scratch", 0, *sets("test_tasks=20"))
    across = run(tmp_path / "pair", "textures->glyphs", "maml", 120)
    assert across["episode_hash"] == maml["episode_hash"]
    assert interval(maml)[0] > interval(scratch)[1] + 0.05
    assert interval(maml)[0] > interval(across)[1] + 0.05
    assert interval(across)[0] > 0.15
