"""MAML with learn2learn, TorchOpt and higher, as in their documentation: an nn.Module, task by task."""

from __future__ import annotations

from itertools import pairwise

import torch
from plain import Items, TaskLoop
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from agents.gradient_based import GradientBased


def module(agent: GradientBased) -> nn.Module:
    """The agent's base learner as a module, with the agent's initialization as its weights."""
    spec, layers = agent.spec, []
    if spec.kind == "regression":
        sizes = [*spec.in_shape, *agent.config.hidden]
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    else:
        channels = [spec.in_shape[0], *[agent.config.filters] * 4]
        for fan_in, fan_out in pairwise(channels):
            norm = nn.BatchNorm2d(fan_out, track_running_stats=False)
            layers += [nn.Conv2d(fan_in, fan_out, 3), norm, nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(agent.net.body.n_features, spec.n_outputs)).to(agent.initialization.dtype)
    vector_to_parameters(agent.initialization.detach().clone().flatten(), net.parameters())
    return net


class Learn2Learn(TaskLoop):
    """`learn2learn.algorithms.MAML`: clone and adapt."""

    def __init__(self, agent: GradientBased) -> None:
        from learn2learn.algorithms import MAML

        self.maml = MAML(module(agent), lr=agent.config.inner_lr, first_order=agent.config.first_order)
        super().__init__(agent, self.maml.parameters())

    def query_loss(self, support: Items, query: Items) -> Tensor:
        """Loss of an adapted clone."""
        clone = self.maml.clone()
        for _ in range(self.config.inner_steps):
            clone.adapt(self.loss(clone(support[0]), support[1]))
        return self.loss(clone(query[0]), query[1])


class TorchOpt(TaskLoop):
    """`torchopt.MetaSGD`, with the initial weights restored after every task; it has no first-order mode."""

    def __init__(self, agent: GradientBased) -> None:
        import torchopt

        self.torchopt, self.net = torchopt, module(agent)
        super().__init__(agent, self.net.parameters())

    def query_loss(self, support: Items, query: Items) -> Tensor:
        """Loss of the module, adapted in place."""
        start = self.torchopt.extract_state_dict(self.net, by="reference", detach_buffers=True)
        inner = self.torchopt.MetaSGD(self.net, lr=self.config.inner_lr)
        for _ in range(self.config.inner_steps):
            inner.step(self.loss(self.net(support[0]), support[1]))
        loss = self.loss(self.net(query[0]), query[1])
        self.torchopt.recover_state_dict(self.net, start)
        return loss


class TorchOptFunctional(TaskLoop):
    """`torchopt.sgd` with `torch.func.functional_call`: slower than MetaSGD on sine, but has a first-order mode."""

    def __init__(self, agent: GradientBased) -> None:
        import torchopt

        self.torchopt, self.net = torchopt, module(agent)
        self.names = [name for name, _ in self.net.named_parameters()]
        self.sgd = torchopt.sgd(lr=agent.config.inner_lr)
        super().__init__(agent, self.net.parameters())

    def loss_of(self, weights: tuple[Tensor, ...], items: Items) -> Tensor:
        """Loss of the module with the given weights."""
        named = dict(zip(self.names, weights, strict=True))
        return self.loss(torch.func.functional_call(self.net, named, (items[0],)), items[1])

    def query_loss(self, support: Items, query: Items) -> Tensor:
        """Loss after updates that are not in place."""
        weights = tuple(self.parameters)
        state = self.sgd.init(weights)
        for _ in range(self.config.inner_steps):
            loss = self.loss_of(weights, support)
            grads = torch.autograd.grad(loss, weights, create_graph=not self.config.first_order)
            updates, state = self.sgd.update(grads, state, params=weights, inplace=False)
            weights = self.torchopt.apply_updates(weights, updates, inplace=False)
        return self.loss_of(weights, query)


class Higher(TaskLoop):
    """`higher.innerloop_ctx` around SGD; first order: its gradients detached."""

    def __init__(self, agent: GradientBased) -> None:
        import higher

        self.context, self.net = higher.innerloop_ctx, module(agent)
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=agent.config.inner_lr)
        super().__init__(agent, self.net.parameters())

    def query_loss(self, support: Items, query: Items) -> Tensor:
        """Loss of an adapted functional copy."""
        detach = (lambda grads: [g.detach() for g in grads]) if self.config.first_order else None
        with self.context(self.net, self.sgd, copy_initial_weights=False) as (net, inner):
            for _ in range(self.config.inner_steps):
                inner.step(self.loss(net(support[0]), support[1]), grad_callback=detach)
            return self.loss(net(query[0]), query[1])
