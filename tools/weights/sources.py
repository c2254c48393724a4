"""The supported sources of weights: each is one entry of `SOURCES`."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from ...backbones import timm_names
from ...backbones.blocks import BlockTrunk
from ...backbones.classifier import Classifier
from ...backbones.features import Backbone
from ...backbones.layers import Normalize
from ...backbones.mobilenet_v2 import MobileNetV2
from ...backbones.weights import classifier_from_torchvision, from_torchvision, picture_settings, trunk_settings
from ...detection import weights as detection_weights
from ...detection.network import SSDLite
from ...segmentation import weights as segmentation_weights
from ...segmentation.c3net import C3Net
from ...segmentation.espnet import ESPNet
from ...segmentation.espnetv2 import ESPNetv2
from ...segmentation.network import LRASPP
from ..system.console import log

State = Mapping[str, Tensor]


def _from_torchvision(model: nn.Module, state: State) -> dict[str, Tensor]:
    if isinstance(model, Classifier):
        return classifier_from_torchvision(state)
    if isinstance(model, Backbone):
        return from_torchvision(state)
    if any(name.startswith(("features.", "layers.")) for name in state):  # an ImageNet classifier
        return from_torchvision(state, to="backbone.")
    if isinstance(model, SSDLite):
        return detection_weights.ssdlite_from_torchvision(state)
    if isinstance(model, LRASPP):
        return segmentation_weights.lraspp_from_torchvision(state)
    raise ValueError(
        f"torchvision has no {type(model).__name__}: only weights of its classifiers can be loaded, into the backbone"
    )


def _from_timm(model: nn.Module, state: State) -> dict[str, Tensor]:
    if isinstance(model, Classifier):
        return timm_names.classifier_from_timm(state)
    return timm_names.from_timm(state, to="" if isinstance(model, Backbone) else "backbone.")


def _from_released(
    model: nn.Module, state: State, *, network: type[nn.Module], rename: Callable[[State], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """From a third-party network published with weights; its class is named after its `model=`."""
    if not isinstance(model, network):
        raise ValueError(f"these weights are for model={network.__name__.lower()}, not for {type(model).__name__}")
    return rename(state)


# weights_source -> a function from the model and a third-party state dict to one with our names.
SOURCES: dict[str, Callable[[nn.Module, State], dict[str, Tensor]]] = {
    "pocketvision": lambda model, state: dict(state),
    "torchvision": _from_torchvision,
    "timm": _from_timm,
    "espnet": partial(_from_released, network=ESPNet, rename=segmentation_weights.espnet_from_released),
    "espnetv2": partial(_from_released, network=ESPNetv2, rename=segmentation_weights.espnetv2_from_released),
    "c3net": partial(_from_released, network=C3Net, rename=segmentation_weights.c3net_from_released),
}


class ConflictError(ValueError):
    """Weights and settings do not agree; `keys` are the overrides, as `key=value`, that settle it."""

    def __init__(self, text: str, keys: Sequence[str]) -> None:
        super().__init__(text)
        self.keys = tuple(keys)


def require(keys: Sequence[str], source: str) -> None:
    """Raise ConflictError if settings, as `key=value`, differ from those the weights were trained with."""
    if keys:
        raise ConflictError(
            f"weights_source={source}: the weights fit, but the network's settings differ from the ones they were "
            f"trained with; set {' '.join(keys)}",
            keys,
        )


def tell_settings(model: nn.Module, source: str, file: str, *, of_run: Sequence[str] = (), backbone_only: bool) -> None:
    """Report weights that fit a network whose settings differ from those they were trained with.

    For a whole network this is an error. A backbone alone will be trained further, so there is only a warning.

    Args:
        of_run: the differing settings, as `key=value`, of our run that the weights are from.
    """
    keys = [*of_run, *_foreign_settings(model, source, file, backbone_only=backbone_only)]
    if not backbone_only:
        require(keys, source)
    elif keys:
        log.warning("these weights were trained with different settings; to match them, set %s", " ".join(keys))


def _foreign_settings(model: nn.Module, source: str, file: str, *, backbone_only: bool) -> list[str]:
    """The settings of torchvision or timm that differ here, as `key=value`."""
    trunk = getattr(model, "backbone", model)
    if source not in ("torchvision", "timm") or not isinstance(trunk, BlockTrunk):
        return []
    name = re.split(r"[.-]", file)[0]
    if source == "timm":
        keys = timm_names.settings(trunk, name=name if name in timm_names.NETWORKS else None)
    else:
        eps = 1e-5 if isinstance(trunk, MobileNetV2) else 1e-3
        keys = trunk_settings(trunk, [{"bn_eps": eps, "padding": "symmetric"}])
    if hasattr(model, "normalize") and (name in timm_names.NETWORKS or source == "torchvision"):
        keys += _normalize_settings(model, file if source == "timm" else "", backbone_only=backbone_only)
    if not backbone_only and isinstance(model, SSDLite):
        keys += detection_weights.torchvision_settings(model)
    elif not backbone_only and isinstance(model, LRASPP):
        keys += segmentation_weights.torchvision_settings(model)
    return keys


def _normalize_settings(model: nn.Module, file: str, *, backbone_only: bool) -> list[str]:
    """The keys for mean and standard deviation of the pictures; only torchvision's SSDLite uses 0.5."""
    half = isinstance(model, SSDLite) and not backbone_only
    mean, std = ((0.5,) * 3, (0.5,) * 3) if half else timm_names.mean_std(file)
    normalize = model.get_submodule("normalize")
    assert isinstance(normalize, Normalize)
    return picture_settings(normalize, mean=mean, std=std)
