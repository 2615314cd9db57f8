"""MAML (Finn et al. 2017; paper, Sect. 3.2): gradient descent from a learned initialization.

theta^(t+1) = theta^(t) - inner_lr * grad L_support(theta^(t))                                    (Eq. 1)
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from agents.base import AgentConfig
from agents.engine.inner_loop import UpdateRule
from agents.engine.native import NativeStep
from agents.gradient_based import INNER_CLIP, TASK_CLIP, GradientBased, GradientBasedConfig, published_clip
from agents.networks import Network
from fewshot_env.episode import TaskSpec


class MAMLConfig(GradientBasedConfig):
    """Settings of MAML; with first_order it is FO-MAML."""

    inner_lr: float = Field(0.01, gt=0, description="alpha, learning rate of the inner loop")
    inner_clip: float | None = published_clip(INNER_CLIP)
    task_clip: float | None = published_clip(TASK_CLIP)

    @classmethod
    def paper(cls, spec: TaskSpec, n_shot: int) -> dict[str, Any]:
        """Sine: T = 1, one task per step. Images: T = 5, 10 at the test, 4 tasks (1-shot) or 2 (5-shot)."""
        if spec.kind == "regression":
            return {"inner_steps": 1, "meta_batch": 1}
        return super().paper(spec, n_shot) | {"inner_steps": 5, "eval_steps": 10, "meta_batch": 4 if n_shot < 5 else 2}


class GradientDescent:
    """theta - lr * gradient; stateless."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def init(self, params: Tensor) -> None:
        """No state."""

    def __call__(self, params: Tensor, grads: Tensor, loss: Tensor, step: int, state: None) -> tuple[Tensor, None]:
        """Eq. 1 for weights and gradients [B, P]."""
        return params - self.lr * grads, None

    def native_step(self) -> NativeStep:
        """The same as a kernel takes it."""
        return NativeStep("descent", (self.lr,), (None,))


class MAML(GradientBased):
    """MAML, second- or first-order."""

    Config: ClassVar[type[AgentConfig]] = MAMLConfig
    stackable = True
    config: MAMLConfig

    def make_rule(self, net: Network) -> UpdateRule:
        """Gradient descent."""
        return GradientDescent(self.config.inner_lr)
