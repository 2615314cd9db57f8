"""Base learners as functions of flat weights: MLP, Conv4, ResNets, any nn.Module; heads; their objectives."""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

from agents.networks.conv4 import Conv4Body, conv4_size
from agents.networks.features import Encoder, FeatureBody
from agents.networks.flat import Shapes, by_weight, matrices, replaced, size_of, unpack
from agents.networks.heads import CosineHead, Head, LinearHead, NearestMeanHead
from agents.networks.inputs import prepared
from agents.networks.library import timm_network, torchvision_network, without_classifier
from agents.networks.mlp import MLPBody
from agents.networks.module import ModuleBody
from agents.networks.network import Body, Network
from agents.networks.resnet import ResNet12, resnet18
from agents.networks.weights import follow, load_weights
from fewshot_env import plugins
from fewshot_env.errors import FewShotError, said, suggest

__all__ = [
    "Body", "Conv4Body", "CosineHead", "Encoder", "FeatureBody", "Head", "LinearHead", "MLPBody", "ModuleBody",
    "NearestMeanHead", "Network", "Shapes", "by_weight", "conv4_size", "is_custom", "make_body", "matrices", "replaced",
    "size_of", "unpack",
]  # fmt: skip

NETWORKS = ("auto", "mlp", "conv4", "resnet12", "resnet18")
LIBRARIES = {"torchvision": torchvision_network, "timm": timm_network}
FORMS = ("torchvision:NAME", "timm:NAME", "module:factory")


def make_body(
    network: str,
    in_shape: tuple[int, ...],
    hidden: tuple[int, ...] = (40, 40),
    filters: int = 64,
    padding: int = 0,
    bf16: bool = False,
    widths: tuple[int, ...] = (64, 160, 320, 640),
    weights: str = "none",
    leave_out: bool = False,
) -> Body:
    """The body that the setting `agent.network` names.

    Args:
        network: "auto" (Conv4 for images [C, H, W], the MLP for everything else; paper, Appendix), "mlp", "conv4",
            "resnet12", "resnet18", "torchvision:NAME", "timm:NAME", or "module:factory", where factory(in_shape) gives
            an nn.Module with features [S, F].
        in_shape: shape of one item.
        hidden: ReLU layers of the MLP.
        filters: filters of Conv4's convolutions.
        padding: padding of Conv4's convolutions, 0 or 1.
        bf16: whether Conv4's convolutions compute in bfloat16.
        widths: filters of ResNet-12's blocks.
        weights: "none", "default" (the library's pretrained ones), or a file (agents.networks.weights).
        leave_out: whether weights that do not fit are left out; else they are refused.

    Raises:
        FewShotError: for an unknown name, a network that does not fit such items, weights that do not fit the network,
            or bf16 without Conv4.
    """
    if network == "auto":
        network = "conv4" if len(in_shape) == 3 else "mlp"
    if bf16 and network != "conv4":
        raise FewShotError("bf16 is for Conv4's convolutions, and this network is not Conv4; leave it out")
    if network in ("conv4", "mlp"):
        if weights != "none":
            raise FewShotError(f"agent.network_weights is for {', '.join(NETWORKS[3:] + FORMS)}, not for {network}")
        if network == "mlp":
            return MLPBody(math.prod(in_shape), hidden)
        _check_images(network, in_shape)
        return Conv4Body(in_shape, filters, padding, bf16)
    return ModuleBody(_module(network, in_shape, widths, "none" if follow() else weights, leave_out), in_shape)


def is_custom(network: str) -> bool:
    """Whether a network is named by module:factory, so that making it imports somebody's code."""
    return ":" in network and network.partition(":")[0] not in LIBRARIES


def _module(
    network: str, in_shape: tuple[int, ...], widths: tuple[int, ...], weights: str, leave_out: bool
) -> nn.Module:
    """The network as a module with its first weights."""
    library, _, name = network.partition(":")
    from_library = LIBRARIES.get(library) if name else None
    if weights == "default" and from_library is None:
        raise FewShotError(f"the network {network} has no default weights; name a file: agent.network_weights=FILE")
    if from_library is not None:
        _check_images(network, in_shape)
        module = from_library(name, weights == "default")
    elif network in ("resnet12", "resnet18"):
        _check_images(network, in_shape)
        module = ResNet12(in_shape[0], widths) if network == "resnet12" else resnet18(in_shape)
    else:
        module = _from_factory(network, in_shape)
    if weights not in ("none", "default"):
        load_weights(module, network, Path(weights), leave_out)
    return prepared(module if from_library is None else without_classifier(module, network))


def _check_images(network: str, in_shape: tuple[int, ...]) -> None:
    if len(in_shape) != 3:
        raise FewShotError(f"agent.network is {network}, but items of shape {in_shape} are not images; use mlp")


def _from_factory(network: str, in_shape: tuple[int, ...]) -> nn.Module:
    if ":" not in network:
        known = ", ".join(NETWORKS + FORMS)
        raise FewShotError(f"unknown network {network!r}{suggest(network, NETWORKS)}; known: {known}")
    factory = plugins.load(network, f"network {network!r}")
    try:
        module = factory(in_shape)
    except Exception as error:  # of the factory
        raise FewShotError(f"the network {network!r} cannot be built for items {in_shape}: {said(error)}") from error
    if not isinstance(module, nn.Module):
        raise FewShotError(f"{network!r} gives a {type(module).__name__}, but must give a torch.nn.Module")
    return module
