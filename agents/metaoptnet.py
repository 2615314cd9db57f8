"""MetaOptNet (Lee, Maji, Ravichandran & Soatto 2019): a convex classifier on learned features, differentiated at its
optimum.

    W = argmin_W 1/2 |W|^2 + C sum over the support of its multi-class hinge losses,  or by ridge regression,
    logit_n(x) = gamma w_n . f(x),   gamma learned                              (their Eq. 3 to 6, 9 and 10)

Like the authors' code, it adds agent.smoothing to every item's product with itself in the dual.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from agents.base import AgentConfig
from agents.engine.svm import svm_dual
from agents.networks import LinearHead, Network
from agents.neural import Adapted, NeuralAgent, NeuralConfig
from agents.r2d2 import ridge
from fewshot_env.episode import Split, TaskSpec
from fewshot_env.errors import FewShotError


class MetaOptNetConfig(NeuralConfig):
    """Settings of MetaOptNet."""

    body: Literal["learned", "frozen"] = Field(
        "learned", description="the network: learned in meta-training, or frozen (keeps its first weights)"
    )
    head: Literal["svm", "ridge"] = Field(
        "svm", description="a multi-class linear support vector machine, or ridge regression on one-hot labels"
    )
    penalty: float = Field(0.1, gt=0, description="C of the support vector machine: bound on an item's influence")
    smoothing: float = Field(
        1.0, gt=0, description="added to every item's product with itself in the dual (the authors' code: 1)"
    )
    ridge: float = Field(50.0, gt=0, description="lambda of ridge regression (the authors' code: 50)")


class MetaOptNet(NeuralAgent):
    """MetaOptNet-SVM or -ridge; a task is learned by solving a convex problem."""

    Config: ClassVar[type[AgentConfig]] = MetaOptNetConfig
    answers_alone = True
    stackable = True
    config: MetaOptNetConfig

    def __init__(self, spec: TaskSpec, config: MetaOptNetConfig) -> None:
        if spec.kind != "classification" and config.head == "svm":
            raise FewShotError(
                "a support vector machine separates classes, and regression has none; try metaoptnet-ridge or maml"
            )
        for name in ("ridge",) if config.head == "svm" else ("penalty", "smoothing"):
            if getattr(config, name) != type(config).model_fields[name].default:
                raise FewShotError(f"agent.{name} changes nothing where agent.head is {config.head}; leave it out")
        super().__init__(spec, config)
        self.net = Network(self.body, LinearHead(self.body.n_features, spec.n_outputs), config.at_once)
        self.scale = nn.Parameter(torch.ones(1, 1))  # [runs, 1]

    def adapt(self, support: Split) -> Adapted:
        """A linear head [B, P_head] without biases; zero scores where S = 0."""
        items, stats = self.encode(support)
        z, y = items.x, items.labels
        targets = F.one_hot(y, self.spec.n_outputs).to(z) if self.spec.kind == "classification" else y
        if not z.shape[1]:
            weights = z.new_zeros(len(z), z.shape[2], self.spec.n_outputs)
        elif self.config.head == "ridge":
            weights = ridge(z, targets, z.new_tensor(self.config.ridge))
        else:
            products = z @ z.mT + self.config.smoothing * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
            weights = z.mT @ svm_dual(products, y, self.spec.n_outputs, self.config.penalty)
        scale = self.scale.repeat_interleave(len(z) // self.runs, 0)
        head = torch.cat([scale * weights.mT.flatten(1), z.new_zeros(len(z), self.spec.n_outputs)], 1)
        return Adapted(head, head.new_zeros(len(head), 0), stats)

    def predict(self, adapted: Adapted, query_x: Tensor) -> Tensor:
        """Scores or values [B, Q, N]."""
        return self.predict_with(self.net, adapted, query_x)
