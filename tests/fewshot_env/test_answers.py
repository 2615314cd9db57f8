"""What `step` takes, in both interfaces: labels, scores or values; everything else is one line."""

import gymnasium
import numpy as np
import pytest
import torch

import fewshot_env  # noqa: F401  registers the ids
from fewshot_env.errors import FewShotError

GLYPHS = {"n_way": 3, "n_shot": 1, "n_query": 2}


@pytest.fixture(params=["plain", "vector"])
def glyphs(request):
    """An environment with a task, and what makes answers for it from those for one task."""
    if request.param == "plain":
        env = gymnasium.make("FewShot/Glyphs-v0", **GLYPHS)
        env.reset(seed=1)
        return env.unwrapped, lambda answers: answers
    env = gymnasium.make_vec("FewShot/Glyphs-v0", num_envs=2, **GLYPHS)
    env.reset(seed=1)
    return env, lambda answers: np.stack([answers, answers])


@pytest.mark.parametrize("kind", ["labels", "float labels", "scores", "fewer scores", "tensor"])
def test_labels_and_scores_count_alike(kind, glyphs):
    env, for_env = glyphs
    answers = for_env(np.array([0, 1, 0, 1, 1, 0]))
    given = {
        "labels": answers,
        "float labels": answers.astype(np.float32),
        "scores": 2.0 * np.eye(3)[answers] - 7,
        "fewer scores": np.eye(2)[answers],
        "tensor": torch.as_tensor(np.eye(3)[answers]).requires_grad_(),
    }[kind]
    _, reward, *_, info = env.step(given)
    assert np.asarray(reward) == pytest.approx((answers == np.asarray(info["query_y"])).mean(-1))


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (np.array([0, 1, 2, 3, 0, 0]), r"step got the label 3 at .*3\]?, but labels are whole numbers from 0 to 2"),
        (np.array([0, 1, -1, 0, 0, 0]), "step got the label -1 at"),
        (np.array([0, 1, 0.5, 0, 0, 0]), r"step got the label 0\.5 at"),
        (np.array([0, 1, np.nan, 0, 0, 0]), "step got the label nan at"),
        (np.zeros((6, 4)), r"step got answers of shape \[.*6, 4\], but needs labels of shape \[.*6\] from 0 to 2, or"),
        (np.zeros((3, 6)), r"or scores of shape \[.*6, 3\]"),
        (np.zeros((6, 3, 1)), "step got answers of shape"),
        (np.zeros(6, bool), r"step got answers of torch\.bool"),
        (np.zeros(6, complex), r"step got answers of torch\.complex128"),
        (np.array(["a"] * 6), "step got ndarray, but needs labels"),
    ],
)
def test_what_is_neither_is_one_line_and_costs_no_task(answers, match, glyphs):
    env, for_env = glyphs
    with pytest.raises(FewShotError, match=match) as error:
        env.step(for_env(answers))
    assert "\n" not in str(error.value)
    env.step(for_env(np.zeros(6, int)))  # the task is still there


def test_values_of_a_regression():
    env = gymnasium.make("FewShot/Sine-v0", n_query=4).unwrapped
    env.reset(seed=1)
    for wrong in (np.zeros(3), np.zeros((4, 2)), np.zeros((1, 4)), "x", None, [[0], [1, 2]]):
        with pytest.raises(FewShotError, match=r"needs values of shape \[4, 1\]"):
            env.step(wrong)
    _, flat, *_, info = env.step(np.arange(4.0))
    assert flat == pytest.approx(-((np.arange(4.0)[:, None] - info["query_y"]) ** 2).mean(), rel=1e-6)
