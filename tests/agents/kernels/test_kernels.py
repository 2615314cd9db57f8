"""The compiled kernels against the torch code they stand for, and their absence."""

import itertools
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from agents import kernels
from agents.kernels.coordinates import feedforward, feedforward_in_torch, feedforward_size
from agents.meta_lstm import LSTMConfig, LSTMRule, LSTMState
from agents.networks import Conv4Body, size_of, unpack
from agents.networks.conv4_block import BlockMath, CompiledBlockMath
from agents.networks.conv4_pass import Conv4Pass, conv4_features
from fewshot_env.episode import Split
from tests.helpers.agents import IMAGES, SINE, batch_of_tasks, make_agent

needs_kernels = pytest.mark.skipif(kernels.library() is None, reason="no compiled kernels on this machine")


def close(a, b, tolerance=1e-12):
    return bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-300))


def by_torch(compute):
    with kernels.off():
        return compute()


@needs_kernels
@pytest.mark.parametrize(("items", "channels", "height", "width"), [(5, 64, 8, 8), (3, 7, 9, 11), (1, 1, 2, 3)])
def test_block(items, channels, height, width, float64):
    torch.manual_seed(0)
    u = torch.randn(items, channels, height, width) + 3
    ru, scale, shift, r_scale, r_shift = torch.randn_like(u), *torch.randn(4, channels)
    found = []
    for math in (CompiledBlockMath(), BlockMath()):
        b = math.forward(u, scale, shift)
        torch.manual_seed(1)
        d, rd = torch.randn(2, *b.out.shape)
        c = math.r_forward(b, ru, r_scale, r_shift)
        found.append([b.out, b.mean, b.rstd, *math.backward(b, d), c.out, *math.r_backward(b, c, d, rd)])
    assert all(close(a, b) for a, b in zip(*found, strict=True))
    assert found[0][0].abs().max() > 0.1


@needs_kernels
def test_equal_maxima_pass_the_first_pixel(float64):
    """As torch's max-pool; in images, plain areas make whole windows equal."""
    u = torch.randint(3, (4, 2, 6, 6)).double()
    d = torch.rand(4, 2, 3, 3)
    scale, shift = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])
    found = [m.backward(m.forward(u, scale, shift), d)[0] for m in (CompiledBlockMath(), BlockMath())]
    assert close(*found)


@needs_kernels
def test_query_features_in_parts(float64):
    """More items than a part holds, and an odd rest."""
    torch.manual_seed(0)
    body = Conv4Body((2, 20, 20), 3, 1)
    params = 0.3 * torch.randn(1, size_of(body.shapes))
    x = torch.randn(1, 19, 2, 20, 20)
    whole = Conv4Pass(body, unpack(params, body.shapes), x)
    leaf = params.clone().requires_grad_()
    features = conv4_features(body, leaf, x)
    assert close(features.detach(), whole.features)
    d = torch.randn_like(features)
    assert close(torch.autograd.grad(features, leaf, d)[0], whole.backward(d))


@needs_kernels
@pytest.mark.parametrize("sizes", [(3, 20, 20, 1), (1, 1), (2, 7, 5, 1)])
@pytest.mark.parametrize(("runs", "n"), [(1, 1), (2, 127), (3, 300)])
def test_feedforward(runs, n, sizes, float64):
    torch.manual_seed(0)
    inputs = torch.randn(sizes[0], runs, n).requires_grad_()
    weights = torch.randn(runs, feedforward_size(sizes)).requires_grad_()
    d = torch.randn(runs, n)
    found = []
    for network in (feedforward, lambda *a: feedforward_in_torch(*a[:3])):
        outputs = network(inputs, weights, sizes)
        found.append([outputs.detach(), *torch.autograd.grad(outputs, (inputs, weights), d)])
    assert all(close(a, b) for a, b in zip(*found, strict=True))


@needs_kernels
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "preprocessed"])
@pytest.mark.parametrize(("runs", "tasks", "units"), [(1, 2, 20), (3, 2, 5)])
def test_lstm(runs, tasks, units, raw, float64):
    torch.manual_seed(0)
    rule = LSTMRule(LSTMConfig(hidden_units=units, raw_gradients=raw)).double()
    rule.weights = torch.nn.Parameter(torch.randn(runs, rule.weights.shape[1]))
    params, grads, forget, rate = (torch.randn(runs * tasks, 37).requires_grad_() for _ in range(4))
    hidden, cell = (torch.randn(units, runs * tasks, 37).requires_grad_() for _ in range(2))
    loss = torch.rand(runs * tasks)
    inputs = (params, grads, hidden, cell, forget, rate, rule.weights)

    def compute():
        new, state = rule(params, grads, loss, 0, LSTMState(hidden, cell, forget, rate))
        out = (new, *state)
        torch.manual_seed(1)
        return [*out, *torch.autograd.grad(out, inputs, [torch.randn_like(v) for v in out])]

    for ours, theirs in zip(compute(), by_torch(compute), strict=True):
        assert close(ours.detach(), theirs.detach(), 1e-11)


@needs_kernels
def test_small_states_keep_their_digits_in_float32():
    """Of a first step with tiny weights: cell and hidden state near zero."""
    torch.manual_seed(0)
    rule = LSTMRule(LSTMConfig(hidden_units=5, raw_gradients=True))
    weights = rule.weights.detach() * 1e-4
    found = []
    for dtype in (torch.float32, torch.float64):
        rule.weights = torch.nn.Parameter(weights.to(dtype))
        params, grads = torch.ones(1, 9, dtype=dtype), torch.linspace(-1, 1, 9).to(dtype).unsqueeze(0)
        found.append(rule(params, grads, torch.ones(1, dtype=dtype), 0, rule.init(params))[1])
    for ours, exact in ((found[0].cell, found[1].cell), (found[0].hidden, found[1].hidden)):
        assert 1e-7 < exact.abs().min() < exact.abs().max() < 1e-3
        assert ((ours - exact).abs() <= 1e-5 * exact.abs()).all()


@needs_kernels
def test_what_is_not_finite_stays_so():
    sizes, math = (2, 5, 1), CompiledBlockMath()
    for bad in (torch.nan, torch.inf):
        u = torch.ones(2, 3, 4, 4)
        u[0, 0, 0, 0] = bad
        assert not math.forward(u, torch.ones(3), torch.zeros(3)).mean.isfinite().all()
        inputs = torch.ones(2, 1, 4)
        inputs[0, 0, 1] = bad
        out = feedforward(inputs, torch.ones(1, feedforward_size(sizes)), sizes)
        assert out[0].isfinite().tolist() == [True, False, True, True]
    rule = LSTMRule(LSTMConfig(raw_gradients=True))
    state = rule.init(torch.ones(1, 3))
    new, _ = rule(torch.ones(1, 3), torch.tensor([[1.0, torch.nan, 2.0]]), torch.ones(1), 0, state)
    assert new.detach()[0].isfinite().tolist() == [True, False, True]


@pytest.mark.slow
def test_two_builds_at_once_and_a_compiler_that_fails(tmp_path):
    code = "from agents import kernels; print(kernels.library() is not None)"
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)

    def start(**more):
        env = os.environ | {"FSL_HOME": str(tmp_path)} | more
        return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=-1, stderr=-1, text=True)

    both = [start(), start()]
    fails, off = start(CXX=str(broken)), start(FSL_KERNELS="0")
    outputs = [p.communicate() for p in (*both, fails, off)]
    assert [out for out, _ in outputs[2:]] == ["False\n", "False\n"]
    assert "no compiled kernels, so training is slower" in outputs[2][1]
    assert outputs[3][1] == ""
    if kernels.library() is not None:
        assert [out for out, _ in outputs[:2]] == ["True\n", "True\n"]
        assert len(list((tmp_path / "kernels").iterdir())) == 1


def test_float16_other_devices_and_mixed_types_do_without():
    assert not kernels.available(torch.zeros(1, dtype=torch.float16))
    assert not kernels.available(torch.zeros(1, device="meta"))
    assert not kernels.available(torch.zeros(1), torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("compiled", [True, False], ids=["kernels", "torch"])
def test_what_does_not_fit_is_an_error(compiled):
    """Never answers from memory that is not theirs."""
    with nullcontext() if compiled else kernels.off():
        agent, task = make_agent("maml", "mlp"), batch_of_tasks(SINE)
        adapted = agent.adapt(task.support)
        for query_x in (task.query.x.double(), torch.zeros(3, 4, 1), torch.zeros(2, 4, 2)):
            with pytest.raises(RuntimeError):
                agent.predict(adapted, query_x)
        with pytest.raises(RuntimeError):
            agent.adapt(Split(task.support.x.double(), task.support.y.double()))


def test_a_second_backward_through_conv4_says_so():
    agent, task = make_agent("maml", "conv"), batch_of_tasks(IMAGES)
    loss = agent.predict(agent.adapt(task.support), task.query.x).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already differentiated"):
        loss.backward()


def test_sizes_of_feedforward_networks():
    sizes = (3, 20, 20, 1)
    assert feedforward_size(sizes) == sum(o * (i + 1) for i, o in itertools.pairwise(sizes)) == 521
