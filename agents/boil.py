"""BOIL (Oh, Yoo, Kim & Yun 2021): MAML that adapts the body alone; the head is meta-learned and the same for all tasks.

The reverse is ANIL (Raghu et al. 2020), which is MAML with agent.body=learned.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig, BoundedInt
from agents.engine.inner_loop import UpdateRule
from agents.engine.native import NativeStep
from agents.maml import MAML, MAMLConfig
from agents.networks import Network


class BOILConfig(MAMLConfig):
    """Settings of BOIL."""

    inner_lr: float = Field(0.5, gt=0, description="learning rate of the body in the inner loop (published for Conv4)")
    inner_steps: BoundedInt = Field(1, ge=1, description="T, updates per task in meta-training")
    body: Literal["adapted"] = Field("adapted", description="the network below the head: what adapts is the body")


class BodyDescent:
    """theta - lr * gradient for the first `n_body` weights; the others stay."""

    def __init__(self, lr: float, n_body: int, n_params: int) -> None:
        self.lr, self.n_body = lr, n_body
        self.rates = torch.tensor([[lr]]).repeat(1, n_params)
        self.rates[:, n_body:] = 0

    def init(self, params: Tensor) -> None:
        """No state."""

    def __call__(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: None) -> tuple[Tensor, None]:
        """New weights from weights and gradients [B, P]."""
        step_by = grads.clone()
        step_by[:, self.n_body :] = 0
        return params - self.lr * step_by, None

    def native_step(self) -> NativeStep:
        """The same as a kernel takes it: rates of 0 in the head."""
        return NativeStep("descent", (0.0,), (self.rates,))


class BOIL(MAML):
    """BOIL, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = BOILConfig
    stackable = True
    config: BOILConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent on the body."""
        return BodyDescent(self.config.inner_lr, net.n_body, net.n_params)
