"""Base learners as functions of flat weights: MLP, Conv4, any nn.Module; heads; their objectives."""

from __future__ import annotations

import math

from torch import nn

from agents.networks.conv4 import Conv4Body, conv4_size
from agents.networks.flat import Shapes, size_of, unpack
from agents.networks.heads import CosineHead, Head, LinearHead
from agents.networks.mlp import MLPBody
from agents.networks.module import ModuleBody
from agents.networks.network import Body, Network
from fewshot_env import plugins
from fewshot_env.errors import FewShotError, said, suggest

__all__ = [
    "Body", "Conv4Body", "CosineHead", "Head", "LinearHead", "MLPBody", "ModuleBody", "Network", "Shapes",
    "conv4_size", "make_body", "size_of", "unpack",
]  # fmt: skip

NETWORKS = ("auto", "mlp", "conv4")


def make_body(
    network: str, in_shape: tuple[int, ...], hidden: tuple[int, ...], filters: int, padding: int, bf16: bool = False
) -> Body:
    """The body that the setting `agent.network` names.

    Args:
        network: "auto" (Conv4 for images [C, H, W], the MLP for everything else; paper, Appendix), "mlp", "conv4", or
            "module:factory", where factory(in_shape) gives an nn.Module with features [S, F].
        in_shape: shape of one item.
        hidden: ReLU layers of the MLP.
        filters: filters of Conv4's convolutions.
        padding: padding of Conv4's convolutions, 0 or 1.
        bf16: whether Conv4's convolutions compute in bfloat16.

    Raises:
        FewShotError: for an unknown name, a network that does not fit such items, or bf16 without Conv4.
    """
    if network == "auto":
        network = "conv4" if len(in_shape) == 3 else "mlp"
    if bf16 and network != "conv4":
        raise FewShotError("bf16 is for Conv4's convolutions, and this network is not Conv4; leave it out")
    if network == "conv4":
        if len(in_shape) != 3:
            raise FewShotError(f"agent.network is conv4, but items of shape {in_shape} are not images; use mlp")
        return Conv4Body(in_shape, filters, padding, bf16)
    if network == "mlp":
        return MLPBody(math.prod(in_shape), hidden)
    if ":" not in network:
        known = f"{', '.join(NETWORKS)}, or module:factory"
        raise FewShotError(f"unknown network {network!r}{suggest(network, NETWORKS)}; known: {known}")
    factory = plugins.load(network, f"network {network!r}")
    try:
        module = factory(in_shape)
    except Exception as error:  # of the factory
        raise FewShotError(f"the network {network!r} cannot be built for items {in_shape}: {said(error)}") from error
    if not isinstance(module, nn.Module):
        raise FewShotError(f"{network!r} gives a {type(module).__name__}, but must give a torch.nn.Module")
    return ModuleBody(module, in_shape)
