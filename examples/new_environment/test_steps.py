"""The steps are steps."""

import gymnasium
import pytest
from fewshot_steps.sampler import Steps
from gymnasium.utils.env_checker import check_env

from fewshot_env.registry import load_plugins


def test_a_task_has_two_levels_and_one_jump() -> None:
    """In the order of x, y changes once at the most."""
    task = Steps(n_query=200, height=2.0).sample(range(50)).query
    order = task.x[..., 0].argsort(1)
    y = task.labels[..., 0].gather(1, order)
    jumps = (y.diff(dim=1) != 0).sum(1)
    assert jumps.max() == 1
    assert jumps.float().mean() > 0.9
    assert y.abs().max() <= 2


def test_equal_seeds_give_equal_tasks() -> None:
    """Alone or in a batch; and this very task, so that Steps-v0 never changes unnoticed."""
    steps = Steps(n_shot=2)
    batch, alone = steps.sample([7, 8]), steps.sample([8])
    assert batch.query.labels[1].equal(alone.query.labels[0])
    assert alone.support.x.flatten().tolist() == pytest.approx([-0.866705, 0.768011], abs=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the checker's opinions on bounds and viewers
def test_gymnasium_knows_it() -> None:
    """The installed entry point gives the id and both interfaces."""
    load_plugins()
    check_env(gymnasium.make("FewShot/Steps-v0").unwrapped)
    obs, _ = gymnasium.make_vec("FewShot/Steps-v0", num_envs=3).unwrapped.reset(seed=1)
    assert obs["support_x"].shape == (3, 5, 1)
