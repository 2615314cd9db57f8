"""OP-LSTM against a loop over items and units with torch's own LSTM formulas written out; its limit is descent."""

import pytest
import torch
import torch.nn.functional as F

import agents
from fewshot_env.episode import Episode, Split
from fewshot_env.errors import FewShotError
from tests.helpers.agents import IMAGES, agent_meta_loss, batch_of_tasks, gradients, make_agent, relative_error
from tests.helpers.learners import along_a_direction, plain_features, same

pytestmark = pytest.mark.usefixtures("float64")


def unit(lstm, two, state):
    """One item and unit: inputs [2] through both layers; the state is a list [h, c, h', c']."""
    x, new = two, []
    for layer, n in enumerate(lstm.units):
        h, c = (torch.zeros(n), torch.zeros(n)) if state is None else state[2 * layer : 2 * layer + 2]
        z = torch.cat([x, h]) @ lstm.weights[layer][0] + lstm.biases[layer][0, 0]
        c = torch.sigmoid(z[:n]) * c + torch.sigmoid(z[n : 2 * n]) * torch.tanh(z[3 * n :])
        x = torch.sigmoid(z[2 * n : 3 * n]) * torch.tanh(c)
        new += [x, c]
    return x[0], new


def passes(agent, layers, x, targets, steps):
    """The layers [(W, b)] of one task after so many passes, every item and unit by itself."""
    layers, states = [list(layer) for layer in layers], {}
    for _ in range(steps):
        acts = [x]
        for i, (w, b) in enumerate(layers):
            z = acts[-1] @ w.T + b
            acts.append(F.relu(z) if i + 1 < len(layers) else z)
        above, changes = None, {}
        for i in reversed(range(len(layers))):
            last = i + 1 == len(layers)
            lstm = agent.of_output if last else agent.of_hidden
            outputs = []
            for s in range(len(x)):
                row = []
                for j in range(layers[i][0].shape[0]):
                    message = None if last else sum(above[s][k] * layers[i + 1][0][k, j] for k in range(len(above[s])))
                    two = torch.stack([targets[s, j], acts[-1][s, j]] if last else [acts[i + 1][s, j], message])
                    out, states[i, s, j] = unit(lstm, two, states.get((i, s, j)))
                    row.append(out)
                outputs.append(row)
            above = outputs
            products = sum(torch.outer(torch.stack(outputs[s]), acts[i][s]) for s in range(len(x))) / len(x)
            changes[i] = products
        norm = torch.sqrt(sum((change**2).sum() for change in changes.values()))
        for i, change in changes.items():
            layers[i][0] = layers[i][0] + agent.step_size[0, 0] * change / norm
    return layers


def test_on_a_whole_mlp_it_is_its_loop_over_items_and_units():
    agent = make_agent("op-lstm", "mlp", body="adapted", inner_steps=3, lstm_units=(4, 3), step_size=0.3)
    agent.initialization.data += 0.05
    episode, theta, total = batch_of_tasks(agent.spec, support=3), agent.initialization[0], 0
    cut = theta.split([6, 6, 30, 5, 5, 1])
    first = [(cut[0].view(6, 1), cut[1]), (cut[2].view(5, 6), cut[3]), (cut[4].view(1, 5), cut[5])]
    for b in range(2):
        layers = passes(agent, first, episode.support.x[b], episode.support.y[b], 3)
        h = episode.query.x[b]
        for i, (w, bias) in enumerate(layers):
            h = h @ w.T + bias
            h = F.relu(h) if i < 2 else h
        total = total + F.mse_loss(h, episode.query.y[b])
    same(agent, total, episode)


def test_on_a_head_it_is_its_loop_over_items_and_units():
    agent = make_agent("op-lstm", "conv", inner_steps=2, lstm_units=(4, 3), step_size=0.3)
    assert agent.of_hidden is None
    episode, theta, total = batch_of_tasks(IMAGES), agent.initialization[0], 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        hot = F.one_hot(episode.support.y[b], 3).double()
        ((w, bias),) = passes(agent, [(theta[:9].view(3, 3), theta[9:])], z, hot, 2)
        total = total + F.cross_entropy(q @ w.T + bias, episode.query.y[b])
    actual = agent_meta_loss(agent, episode)
    assert actual.item() == pytest.approx(total.item(), rel=1e-9)
    assert relative_error(gradients(actual, agent), gradients(total, agent)) < 1e-7


class Error(torch.nn.Module):
    """In the place of the LSTM: the error at the outputs, and below the message where the unit is active."""

    def __init__(self, at_outputs):
        super().__init__()
        self.at_outputs = at_outputs

    def first(self, x):
        return []

    def forward(self, inputs, state):
        one, other = inputs.unbind(-1)
        return (one - other) if self.at_outputs else other * (one > 0), []


def test_with_errors_as_outputs_it_is_gradient_descent_of_normalized_steps():
    agent = make_agent("op-lstm", "mlp", body="adapted", inner_steps=1, step_size=0.2)
    agent.of_output, agent.of_hidden = Error(True), Error(False)
    episode = batch_of_tasks(agent.spec)
    start, adapted = agent.initialization[0].detach(), agent.adapt(episode.support).params.detach()
    maml = make_agent("maml", "mlp", inner_steps=1, inner_lr=1.0)
    maml.initialization.data.copy_(agent.initialization)
    step = (maml.adapt(episode.support).params - start).detach()  # minus the gradient
    for biases in (slice(6, 12), slice(42, 47), slice(52, 53)):
        step[:, biases] = 0
    expected = 0.2 * step / step.norm(dim=1, keepdim=True)
    torch.testing.assert_close(adapted - start, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "body"), [("mlp", "adapted"), ("mlp", "learned"), ("conv", "learned")])
def test_meta_gradients_are_seen_by_finite_differences(kind, body):
    agent = make_agent("op-lstm", kind, body=body, inner_steps=3, lstm_units=(4, 3))
    agent.initialization.data += 0.05
    by_gradient, by_difference = along_a_direction(agent, batch_of_tasks(agent.spec))
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)


def plain_reader(agent, z, y, q):
    """The plain LSTM of one task with PyTorch's cell formulas, item by item: the outputs for the query's features."""

    def step(x, state):
        new = []
        for layer in range(2):
            h, c = state[layer]
            f, i, o, g = (torch.cat([x, h]) @ agent.lstm.weights[layer][0] + agent.lstm.biases[layer][0, 0]).chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            x = torch.sigmoid(o) * torch.tanh(c)
            new.append((x, c))
        return new

    state = [(torch.zeros(5), torch.zeros(5))] * 2
    for _ in range(3):
        states = [step(torch.cat([z[s], y[s]]), state) for s in range(len(z))]
        state = [
            tuple(torch.stack([s[layer][part] for s in states]).mean(0) for part in range(2)) for layer in range(2)
        ]
    outputs = [step(torch.cat([q[s], torch.zeros(y.shape[1])]), state)[-1][0] for s in range(len(q))]
    return torch.stack(outputs) @ agent.answer[0] + agent.bias[0, 0]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_plain_lstm_is_its_loop_over_items_in_any_order(kind):
    agent = make_agent("plain-lstm", kind, inner_steps=3, hidden_size=5)
    episode, spec, total = batch_of_tasks(agent.spec), agent.spec, 0
    for b in range(2):
        z, q = (plain_features(agent, s.x[b]) for s in (episode.support, episode.query))
        y = episode.support.y[b]
        y = F.one_hot(y, 3).double() if spec.kind == "classification" else y
        total = total + spec.loss(plain_reader(agent, z, y, q)[None], episode.query.y[b : b + 1]).sum()
    actual = agent_meta_loss(agent, episode)
    assert actual.item() == pytest.approx(total.item(), rel=1e-9)
    assert relative_error(gradients(actual, agent), gradients(total, agent)) < 1e-7
    by_gradient, by_difference = along_a_direction(agent, episode)
    assert by_gradient == pytest.approx(by_difference, rel=1e-5)
    other = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = Episode(Split(episode.support.x[:, other], episode.support.y[:, other]), episode.query)
    assert agent_meta_loss(agent, turned).item() == pytest.approx(actual.item(), rel=1e-10)


def test_a_whole_convolutional_network_is_refused():
    with pytest.raises(FewShotError, match=r"^agent\.body=adapted is for an MLP"):
        agents.make("op-lstm", IMAGES, body="adapted", padding=1)
