"""Networks of torchvision and timm by name, as modules that give features [S, F].

The classifier is left out. Layers that draw random numbers (dropout, stochastic depth) are off: adaptation is a
function of the support set. What the network was made for (size, mean and standard deviation of its input) is declared
for agents.networks.inputs.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from fewshot_env.errors import FewShotError, said, suggest


def torchvision_network(name: str, pretrained: bool) -> nn.Module:
    """The network that torchvision calls `name`, with its default weights if `pretrained`.

    Raises:
        FewShotError: for an unknown name, or where its weights cannot be downloaded.
    """
    import torchvision.models as models

    known = models.list_models(module=models)
    if name not in known:
        raise FewShotError(f"torchvision has no network {name!r}{suggest(name, known)}; torchvision.models lists them")
    weights = models.get_model_weights(name).DEFAULT
    try:
        net: nn.Module = models.get_model(name, weights=weights if pretrained else None)
    except OSError as error:  # of the download
        raise _no_download(f"torchvision:{name}", error) from error
    made_for: Any = weights.transforms()
    net.expects_size, net.expects_mean, net.expects_std = made_for.crop_size[0], made_for.mean, made_for.std
    return net


def timm_network(name: str, pretrained: bool) -> nn.Module:
    """The network that timm calls `name`, with its default weights if `pretrained`.

    Raises:
        FewShotError: without timm, for an unknown name, or where its weights cannot be downloaded.
    """
    timm = _timm()
    known = timm.list_models()
    if name.split(".")[0] not in known:
        raise FewShotError(f"timm has no network {name!r}{suggest(name, known)}; timm.list_models() lists them")
    try:
        net: nn.Module = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # of the hub: it has many kinds
        if pretrained:
            raise _no_download(f"timm:{name}", error) from error
        raise FewShotError(f"timm cannot make its network {name!r}: {said(error)}") from error
    made_for = timm.data.resolve_model_data_config(net)
    net.expects_size, net.expects_mean, net.expects_std = made_for["input_size"][-1], made_for["mean"], made_for["std"]
    return net


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise FewShotError("a network timm:NAME needs timm; install it: pip install 'fewshot[timm]'") from error
    module: ModuleType = timm
    return module


def _no_download(network: str, error: Exception) -> FewShotError:
    return FewShotError(
        f"the weights of {network} cannot be downloaded ({said(error)}); download them elsewhere and name the file: "
        "agent.network_weights=FILE"
    )


def without_classifier(net: nn.Module, name: str) -> nn.Module:
    """The network without its classifier, and with no random layer at work.

    Raises:
        FewShotError: where its last layer is not a linear classifier, so that it is not known what its features are.
    """
    for layer in net.modules():
        for rate in ("p", "drop_prob"):
            if _is_random(layer) and hasattr(layer, rate):
                setattr(layer, rate, 0.0)
    reset: Any = getattr(net, "reset_classifier", None)  # timm's
    if reset is not None:
        reset(0)
        return net
    place = next((part for part in ("fc", "classifier", "head", "heads") if hasattr(net, part)), "")
    last = [path for path, layer in net.get_submodule(place).named_modules(prefix=place) if not [*layer.children()]][-1]
    if not place or not isinstance(net.get_submodule(last), nn.Linear):
        raise FewShotError(f"{name} does not end in a linear classifier, so its features are not known; choose another")
    parent, _, child = last.rpartition(".")
    setattr(net.get_submodule(parent), child, nn.Identity())
    return net


def _is_random(layer: nn.Module) -> bool:
    return "Drop" in type(layer).__name__ or type(layer).__name__ == "StochasticDepth"
