"""TrainFromScratch, Finetuning and Baseline++ (Chen et al. 2019; paper, Sect. 5.3 and Appendix).

Pre-training classifies minibatches over all base classes. A new task gets 100 Adam steps on minibatches
of 4 support items; of the weights after 25, 50, 75 and 100 steps those with the lowest loss on the whole
support are used. TrainFromScratch skips the pre-training and adapts all weights; the other two adapt a
new head on features that stay (agent.body=adapted adapts these too; frozen does without the pre-training).
On regression tasks the head is kept from the pre-training.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig, BoundedInt
from agents.networks import CosineHead, Head
from agents.neural import Adapted, NeuralConfig
from agents.pretraining import Pretrained, PretrainedConfig
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class TransferConfig(PretrainedConfig):
    """Settings of the transfer baselines."""

    adapt_steps: BoundedInt = Field(100, ge=1, description="Adam steps on a new task")
    adapt_batch: BoundedInt = Field(4, ge=1, description="support items per adaptation step, drawn with replacement")
    adapt_lr: float = Field(0.001, gt=0, description="learning rate of Adam on a new task")
    check_every: BoundedInt = Field(25, ge=1, description="steps between evaluations on the whole support")


class FrozenConfig(TransferConfig):
    """Settings of the baselines that adapt a head."""

    bn: Literal["transductive", "support", "running"] = Field(
        "running", description=NeuralConfig.model_fields["bn"].description
    )


class ScratchConfig(TransferConfig):
    """Settings of TrainFromScratch."""

    body: Literal["adapted", "learned", "frozen"] = Field(
        "adapted", description=NeuralConfig.model_fields["body"].description
    )


class BaselinePlusConfig(FrozenConfig):
    """Settings of Baseline++."""

    scale: float = Field(
        2.0, gt=0, description="factor on the cosines (published: 2; Chen et al.: 2, or 10 above 200 classes)"
    )
    learn_gain: bool = Field(
        True, description="a learned factor per class (Chen et al., published); else a pure cosine"
    )


class Transfer(Pretrained):
    """What the three have in common: Adam on a new task's support."""

    Config: ClassVar[type[AgentConfig]] = TransferConfig
    config: TransferConfig

    @classmethod
    def learns_with(cls, spec: TaskSpec, config: AgentConfig) -> bool:
        """A new task gets a new head: where the body is frozen, a pre-training would leave nothing."""
        frozen = isinstance(config, TransferConfig) and config.body == "frozen"
        return cls.learns and not (frozen and spec.kind == "classification")

    def __init__(self, spec: TaskSpec, config: TransferConfig) -> None:
        super().__init__(spec, config)
        if hasattr(type(self), "frozen"):
            raise FewShotError(f"{type(self).__name__} sets frozen, which is the setting agent.body since: give its "
                               "Config the default body = adapted, learned or frozen")  # fmt: skip
        self.register_buffer("adapt_seed", torch.randint(2**31, ()))  # draws of new heads and minibatches

    adapt_seed: Tensor

    def adapt_to(self, support: Split) -> Adapted:
        """Weights adapted to the support.

        Every task gets the same new head and the same order of minibatches, drawn from the agent's own
        seed: adaptation is a function of the support.
        """
        tasks, size = support.x.shape[:2]
        generator = torch.Generator().manual_seed(int(self.adapt_seed))
        params = self._start(generator).expand(tasks, -1)
        losses = params.new_zeros(tasks, 0)
        items, stats = self.encode(support)
        if size:
            order = torch.randint(size, (self.config.adapt_steps, self.config.adapt_batch), generator=generator)
            with torch.enable_grad():
                params, losses = self._fit(params, items, order.to(params.device))
        return Adapted(params, losses, self.stats_for_query(self.net, params, support, stats))

    def _start(self, generator: torch.Generator) -> Tensor:
        """Weights [P] of a new task: the pre-trained ones, with a new head for new classes."""
        if self.spec.kind == "regression":
            return self.weights.detach()
        fresh = self.net.init(generator).to(self.weights)
        return torch.cat([self.weights.detach()[: self.net.n_body], fresh[self.net.n_body :]])

    def _fit(self, params: Tensor, support: Split, order: Tensor) -> tuple[Tensor, Tensor]:
        """Adam on minibatches `order` [steps, batch]; best weights [B, P] and support losses [B, checks].

        Adam works element by element, so one optimizer over [B, P] is one of its own for each task.
        """
        net, stats, x, y = self.net, self.stats_while_adapting(len(params)), support.x, support.labels
        head_only = self.config.body != "adapted"
        if head_only:
            with torch.no_grad():
                x = net.features(params, x, stats)  # [B, S, F]
            fixed, tuned = params[:, : net.n_body], params[:, net.n_body :].clone().requires_grad_()
        else:
            fixed, tuned = params[:, :0], params.clone().requires_grad_()

        def loss(items: Tensor | slice) -> Tensor:
            outputs = net.head(tuned, x[:, items]) if head_only else net(tuned, x[:, items], stats)
            return self.spec.loss(outputs, y[:, items])

        optimizer = torch.optim.Adam([tuned], lr=self.config.adapt_lr, fused=True)
        best, losses = tuned.detach().clone(), []
        for step, items in enumerate(order, 1):
            (tuned.grad,) = torch.autograd.grad(loss(items).sum(), tuned)
            optimizer.step()
            if step % self.config.check_every == 0 or step == len(order):
                with torch.no_grad():
                    losses.append(loss(slice(None)))
                    better = losses[-1] <= torch.stack(losses).amin(0)
                    best = torch.where(better.unsqueeze(1), tuned, best)
        return torch.cat([fixed, best], 1), torch.stack(losses, 1)


class Finetuning(Transfer):
    """Pre-trained features stay; a new linear head learns the task."""

    Config: ClassVar[type[AgentConfig]] = FrozenConfig


class BaselinePlus(Transfer):
    """Finetuning with a cosine head."""

    Config: ClassVar[type[AgentConfig]] = BaselinePlusConfig
    config: BaselinePlusConfig

    def make_head(self, n_features: int, n_outputs: int) -> Head:
        """The cosine head."""
        return CosineHead(n_features, n_outputs, self.config.scale, self.config.learn_gain)


class TrainFromScratch(Transfer):
    """No pre-training: every task starts from the run's one random initialisation and adapts all weights."""

    Config: ClassVar[type[AgentConfig]] = ScratchConfig
    learns = False
