"""LEO (Rusu et al. 2019): gradient steps in a latent code of few numbers, from which a task's classifier is decoded.

    e = E f(x);   (mu_n, log s_n) = mean over pairs (i of class n, j) of relation(e_i, e_j);   z_n = mu_n + s_n eps
    (nu_n, log t'_n) = D z_n;   w_n = nu_n + t_n eps';   logit_n(x) = w_n . f(x)                       (their Eq. 3, 4)
    z' = z - alpha grad_z L_support, several times; then w' = w - beta grad_w L_support, several times;
    loss = L_query(w') + kl KL(z | N(0, 1)) + gamma |stop(z') - z|^2 + lambda_1 |weights|^2 + lambda_2 |corr(D) - I|^2

KL and gamma's term are sums over latents and means over classes; the last is the mean over pairs of D's columns. f(x)
is L2-normalized; t_n = max(t'_n - 1 + sqrt(2 / (F + N)), 0), so that classifiers begin with little noise.

On features of any network: of a pre-trained one as it is (agent.body=frozen, as published), or learned with the rest.
alpha and beta are learned. What is drawn is a function of the support's items, and in evaluation the means are used.
Published, the features of the encoder pass through dropout; here nothing is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig, BoundedInt
from agents.engine.noise import uniform_from
from agents.networks import LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from agents.protonet import class_means
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class LEOConfig(NeuralConfig):
    """Settings of LEO."""

    outer_clip_norm: float | None = Field(0.1, gt=0, description="bound on the norm of the whole meta-gradient")
    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network: learned in meta-training, or frozen (published: frozen, pre-trained)"
    )
    normalize: bool = Field(True, description="L2-normalize the features first")
    latents: BoundedInt = Field(64, ge=1, description="numbers in the code of a class")
    inner_steps: BoundedInt = Field(5, ge=0, description="gradient steps on the code")
    inner_lr: float = Field(1.0, gt=0, description="where the learned rate of these steps begins")
    finetune_steps: BoundedInt = Field(5, ge=0, description="gradient steps on the decoded classifier after them")
    finetune_lr: float = Field(0.001, gt=0, description="where the learned rate of those begins")
    kl_weight: float = Field(0.001, ge=0, description="weight of the code's divergence from a standard normal")
    stay_weight: float = Field(1e-9, ge=0, description="gamma, weight of the way that the code went")
    l2_weight: float = Field(1e-8, ge=0, description="lambda_1, weight of the squared weights")
    orthogonality: float = Field(0.001, ge=0, description="lambda_2, weight of the decoder's correlations")


@dataclass(frozen=True)
class Decoded(Adapted):
    """A classifier, and its penalties [B]."""

    penalties: Tensor | None = None


class LEO(NeuralAgent):
    """LEO on features that no task changes."""

    Config: ClassVar[type[AgentConfig]] = LEOConfig
    answers_alone = True
    config: LEOConfig

    def __init__(self, spec: TaskSpec, config: LEOConfig) -> None:
        if spec.kind != "classification":
            raise FewShotError("LEO decodes a classifier, and regression has no classes; try cavia, maml or r2d2")
        super().__init__(spec, config)
        n_features, latents = self.body.n_features, config.latents
        self.net = Network(self.body, LinearHead(n_features, spec.n_outputs), config.at_once)
        self.code = nn.Linear(n_features, latents, bias=False)
        sizes = [2 * latents] * 4
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
        self.relation = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
        self.decoder = nn.Linear(latents, 2 * n_features, bias=False)
        self.rates = nn.Parameter(torch.tensor([config.inner_lr, config.finetune_lr]))

    def adapt(self, support: Split) -> Decoded:
        """A linear head [B, P_head] without biases after both kinds of steps; equal scores where S = 0."""
        items, stats = self.encode(support)
        items = replace(items, x=self._scaled(items.x))
        config, n, (tasks, size, n_features) = self.config, self.spec.n_outputs, items.x.shape
        if not size:
            head = items.x.new_zeros(tasks, n * (n_features + 1))
            return Decoded(head, head.new_zeros(tasks, 0), stats, None, head.new_zeros(tasks))
        noise = self._noise(support, n * (config.latents + n_features)).split([n * config.latents, n * n_features], 1)
        mean, log_s = self._encoded(items).chunk(2, -1)
        first = z = mean + log_s.exp() * noise[0].view_as(mean)
        losses: list[Tensor] = []
        for _ in range(config.inner_steps):
            z = z - self.rates[0] * self._slope(z, items, noise[1], losses)
        w = self._decoded(z, noise[1])
        for _ in range(config.finetune_steps):
            w = w - self.rates[1] * self._slope(w, items, None, losses)
        kl = 0.5 * (mean.square() + (2 * log_s).exp() - 1 - 2 * log_s).sum(2).mean(1)
        stay = (z.detach() - first).square().sum(2).mean(1)
        head = torch.cat([w.flatten(1), w.new_zeros(tasks, n)], 1)
        past = torch.stack(losses, 1) if losses else w.new_zeros(tasks, 0)
        return Decoded(head, past, stats, None, config.kl_weight * kl + config.stay_weight * stay)

    def _noise(self, support: Split, n: int) -> Tensor:
        """Standard normal in training; 0 in evaluation."""
        if not self.training:
            return support.x.new_zeros(len(support.x), n)
        return torch.erfinv(2 * uniform_from(support.x, n) - 1) * 2**0.5

    def _encoded(self, items: Split) -> Tensor:
        """Means and logarithms of the deviations of every class's code [B, N, 2 latents]."""
        e = self.code(items.x)
        size = e.shape[1]
        pairs = torch.cat([e.unsqueeze(2).expand(-1, -1, size, -1), e.unsqueeze(1).expand(-1, size, -1, -1)], -1)
        return class_means(self.relation(pairs).mean(2), items.labels, self.spec.n_outputs)

    def _decoded(self, z: Tensor, noise: Tensor) -> Tensor:
        """A classifier's weights [B, N, F] from codes [B, N, latents]."""
        mean, log_t = self.decoder(z).chunk(2, -1)
        deviation = (log_t.exp() - 1 + (2 / (mean.shape[-1] + self.spec.n_outputs)) ** 0.5).clamp(min=0)
        weights: Tensor = mean + deviation * noise.view_as(mean)
        return weights

    def _slope(self, at: Tensor, items: Split, noise: Tensor | None, losses: list[Tensor]) -> Tensor:
        """Gradient of the support loss by codes (given noise) or by weights (None), whose value joins `losses`."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            leaf = at if graph else at.detach().requires_grad_()
            w = leaf if noise is None else self._decoded(leaf, noise)
            of_tasks = self.spec.loss(items.x @ w.mT, items.labels)
            (slope,) = torch.autograd.grad(of_tasks.sum(), leaf, create_graph=graph)
        losses.append(of_tasks.detach())
        return slope

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Scores [B, Q, N]."""
        return self.net.head(adapted.params, self.query_features(self.net, adapted, query_x))

    def query_features(self, net: Network, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Features [B, Q, F] that the head reads."""
        return self._scaled(super().query_features(net, adapted, query_x))

    def _scaled(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1) if self.config.normalize else features

    def meta_gradient(self, adapted: Decoded, predictions: Tensor, query_y: Tensor) -> Tensor:
        """The gradient of the query losses and the penalties, those of the weights once for every task."""
        losses = self.spec.loss(predictions, query_y)
        assert adapted.penalties is not None
        own = [self.code.weight, *(p for p in self.relation.parameters()), self.decoder.weight]
        l2 = torch.stack([0.5 * p.square().sum() for p in own]).sum()
        rows = F.normalize(self.decoder.weight.mT, dim=1)
        correlated = (rows @ rows.mT - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)).square().mean()
        of_weights = self.config.l2_weight * l2 + self.config.orthogonality * correlated
        (losses + adapted.penalties + of_weights).sum().backward()
        return losses.detach()
