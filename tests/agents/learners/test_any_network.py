"""The learners that act inside a network, on modules: their layers, their scales, their meta-gradients."""

import pytest
import torch
from torch import nn

import agents
from fewshot_env.errors import FewShotError
from tests.helpers.agents import IMAGES, batch_of_tasks, gradients
from tests.helpers.learners import along_a_direction, meta_gradient, shaken

pytestmark = pytest.mark.usefixtures("float64")


class Residual(nn.Module):
    """A small network with a token, a normalization that has learned already, and a layer of each kind."""

    def __init__(self, normalized=True):
        super().__init__()
        torch.manual_seed(4)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.conv = nn.Conv2d(2, 4, 3, stride=3, bias=False)
        self.norm = nn.BatchNorm2d(4) if normalized else nn.Identity()
        self.out = nn.Linear(4, 3)
        if normalized:
            nn.init.constant_(self.norm.weight, 5.0)
            nn.init.constant_(self.norm.bias, 2.0)

    def forward(self, x):
        h = torch.tanh(self.norm(self.conv(x)).mean((2, 3)) + 0.1 * self.token[0])
        return torch.tanh(self.out(h))


def residual(in_shape):
    return Residual()


def without_norm(in_shape):
    return Residual(False)


def make(name, network=residual, **settings):
    torch.manual_seed(0)
    return agents.make(name, IMAGES, network=network, **settings).double().train()


def test_layers_are_linear_layers_and_convolutions_not_tokens():
    agent = make("t-net")
    assert agent.net.matrices() == {
        "body.conv.weight": None, "body.out.weight": "body.out.bias", "head.weight": "head.bias"
    }  # fmt: skip
    assert [len(m[0]) for m in agent.rule.maps] == [4, 3, 3]
    assert make("cavia", without_norm).rule.bias == "body.out.bias"  # the first that has biases


def test_mamlpp_begins_with_the_scales_that_the_network_brings():
    agent = make("maml++", inner_steps=3)
    assert agent.rule.affine.shape == (1, 3, 8)
    assert torch.equal(agent.rule.affine[0], torch.tensor([5.0] * 4 + [2.0] * 4).expand(3, -1))
    start, adapted = agent.initialization[0], agent.adapt(batch_of_tasks(IMAGES).support).params[0]
    where = [i for i in range(len(start)) if start[i] in (5.0, 2.0)]
    assert len(where) == 8
    assert torch.equal(adapted[where], start[where])


@pytest.mark.parametrize("name", ["cavia", "t-net", "sap", "maml++"])
def test_meta_gradients_on_a_module_are_seen_by_finite_differences(name):
    settings = {"cavia": {"context": 3}, "sap": {}, "t-net": {"inner_clip": None, "task_clip": None},
                "maml++": {"multi_step_share": 0.0, "inner_clip": None, "task_clip": None}}[name]  # fmt: skip
    agent = shaken(make(name, inner_steps=2, inner_lr=0.1, **settings), 0.1)
    by_gradient, by_difference = along_a_direction(agent, batch_of_tasks(IMAGES))
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def test_t_net_with_identities_is_maml_on_a_module():
    episode, found = batch_of_tasks(IMAGES), []
    for name in ("maml", "t-net"):
        agent = make(name, inner_steps=3, inner_lr=0.1)
        found.append(meta_gradient(agent, episode)[1]["initialization"])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_mamlpp_learns_from_the_predictions_that_it_is_given():
    agent, episode = make("maml++", inner_steps=2), batch_of_tasks(IMAGES)
    adapted = agent.adapt(episode.support)
    first = agent.predict(adapted, episode.query.x)
    agent.predict(adapted, episode.query.x.flip(1))
    with pytest.raises(FewShotError, match="from what `predict` gave last"):
        agent.meta_gradient(adapted, first, episode.query.y)
    whole = agent.predict(adapted, episode.query.x)
    agent.meta_gradient(adapted, whole[..., :2], episode.query.y.clamp(max=1))  # fewer ways than outputs
    assert agent.initialization.grad.abs().max() > 0


def test_mamlpp_on_learned_features_has_the_gradient_of_separate_passes():
    """The query's features are computed once for all steps."""
    agent, episode = make("maml++", body="learned", inner_steps=3, inner_lr=0.1), batch_of_tasks(IMAGES)
    _, found = meta_gradient(agent, episode)
    adapted, total = agent.adapt(episode.support), 0
    for step in [*adapted.before_last, adapted]:
        total = total + agent.spec.loss(agent.predict_with(agent.net, step, episode.query.x), episode.query.y).sum() / 3
    want = gradients(total, agent)
    for name, value in want.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
