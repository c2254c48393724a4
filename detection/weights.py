"""Renames other libraries' detectors to our names; load the result with `backbones.weights.load_strict`."""

import re
from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from torch import Tensor, nn

from ..backbones.blocks import BlockTrunk
from ..backbones.layers import SamePaddedConv2d
from ..backbones.reduction import Reduction, kept_of_tap, reduce_trunk
from ..backbones.tf_names import as_slim, layer_of, refuse_unknown, rename_tf_layers, trunk_layers
from ..backbones.tf_settings import BN_EPS, has_eps, is_same_padded, normalize_settings, trunk_settings
from ..backbones.weights import from_torchvision, override
from .anchors import AnchorLayout
from .network import SSDLite


def ssdlite_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of torchvision's `ssdlite320_mobilenet_v3_large`.

    Its anchors are `AnchorLayout.torchvision()`. Its backbone is `reduced="detection"`, or the full one if torchvision
    was given `weights_backbone`.
    """
    first = [int(m[1]) for name in state if (m := re.match(r"backbone\.features\.0\.(\d+)\.", name))]
    if not first:
        raise ValueError(f"no name starts with 'backbone.features.0.'; the first tensor is {next(iter(state), None)!r}")
    c4_block = max(first)
    trunk: dict[str, Tensor] = {}
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("backbone.features."):
            trunk[_unsplit(name.removeprefix("backbone.features."), c4_block=c4_block)] = tensor
        else:
            renamed[_torchvision_head(name)] = tensor
    return from_torchvision(trunk, prefix="", to="backbone.") | renamed


def torchvision_settings(model: SSDLite) -> list[str]:
    """What to set so that the network matches torchvision's; its weights load without it, too."""
    parts = (model.extras, model.class_towers, model.box_towers)
    norms = [layer for part in parts for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]
    right = {
        "model=ssdlite_torchvision": model.anchor_layout == AnchorLayout.torchvision(),
        "model.network.bn_eps=0.001": all(norm.eps == 1e-3 for norm in norms),
        "model.network.padding=symmetric": not any(isinstance(m, SamePaddedConv2d) for m in model.extras.modules()),
    }
    return [key for key, holds in right.items() if not holds]


def _unsplit(name: str, *, c4_block: int) -> str:
    """Undo torchvision's split of the trunk, right after the first convolution of a block."""
    half, index, rest = name.split(".", 2)
    if half == "0":
        return f"{c4_block}.block.0.{rest}" if int(index) == c4_block else f"{index}.{rest}"
    return f"{c4_block}.block.{rest}" if index == "0" else f"{c4_block + int(index)}.{rest}"


def _torchvision_head(name: str) -> str:
    """Our name for an extra layer or predictor."""
    parts = ("conv", "norm")
    if m := re.fullmatch(r"backbone\.extra\.(\d+)\.([012])\.([01])\.(\w+)", name):
        return f"extras.{m[1]}.{m[2]}.{parts[int(m[3])]}.{m[4]}"
    if m := re.fullmatch(r"head\.(classification|regression)_head\.module_list\.(\d+)\.(?:0\.([01])|1)\.(\w+)", name):
        towers = "class_towers" if m[1] == "classification" else "box_towers"
        return f"{towers}.{m[2]}.{'1' if m[3] is None else '0.' + parts[int(m[3])]}.{m[4]}"
    raise ValueError(f"{name} is not a tensor of torchvision's SSDLite")


_TF_EXTRA = re.compile(r"FeatureExtractor/\w+/\w+_[12]_Conv2d_(\d+)_(1x1|3x3_s2)_\d+(_depthwise)?")
_TF_PREDICTOR = re.compile(r"BoxPredictor_(\d+)/(Class|BoxEncoding)Predictor(_depthwise)?")


def is_tf_detector(variables: Mapping[str, np.ndarray]) -> bool:
    """Whether the variables include an SSD's box predictors."""
    return any(name.startswith("BoxPredictor_") for name in variables)


def ssdlite_from_tf(variables: Mapping[str, np.ndarray], *, num_taps: int = 2) -> dict[str, Tensor]:
    """Rename the variables of a TF Object Detection graph, SSDLite on MobileNetV1, V2 or V3.

    Box channels are y, x, h, w there. Made for `padding="same"` in backbone and head, `gate="tf"` and
    `AnchorLayout.reference()`. `num_taps`: the maps that come from the backbone; TensorFlow numbers the extra ones from
    there.

    Raises:
        ValueError: variables are missing or not of such a graph; they are listed.
    """
    variables = as_slim(variables)
    _, trunk = trunk_layers(variables)
    layers: dict[str, str] = {}
    for scope in dict.fromkeys(map(layer_of, variables)):
        if extra := _TF_EXTRA.fullmatch(scope):
            step = 0 if extra[2] == "1x1" else 1 if extra[3] else 2
            layers[scope] = f"extras.{int(extra[1]) - num_taps}.{step}"
        elif predictor := _TF_PREDICTOR.fullmatch(scope):
            towers = "class_towers" if predictor[2] == "Class" else "box_towers"
            layers[scope] = f"{towers}.{predictor[1]}.{0 if predictor[3] else 1}"
    refuse_unknown(variables, layers.keys() | trunk.keys(), what="an SSDLite")
    head = rename_tf_layers(variables, layers)
    for name, tensor in head.items():
        if re.fullmatch(r"box_towers\.\d+\.1\.\w+", name):
            head[name] = tensor.unflatten(0, (-1, 4))[:, [1, 0, 3, 2]].flatten(0, 1)
    return rename_tf_layers(variables, {layer: f"backbone.{ours}" for layer, ours in trunk.items()}) | head


def tf_detector_settings(model: SSDLite) -> list[str]:
    """The keys to set, as `key=value`, to reproduce the results of a TF Object Detection graph."""
    keys = [*trunk_settings(model.backbone), *normalize_settings(model.backbone, model.normalize)]
    if "backbone.padding=same" not in keys and not is_same_padded(model.extras):
        keys.append("model.network.padding=same")
    head = (model.extras, model.class_towers, model.box_towers)
    if f"backbone.bn_eps={BN_EPS}" not in keys and not all(has_eps(part, BN_EPS) for part in head):
        keys.append(f"model.network.bn_eps={BN_EPS}")
    reference = AnchorLayout.reference(num_maps=model.anchor_layout.num_maps)
    return keys + [
        override(f"++model.network.anchors.{field.name}", getattr(reference, field.name))
        for field in fields(AnchorLayout)
        if getattr(reference, field.name) != getattr(model.anchor_layout, field.name)
    ]


def reduce_ssdlite(reduction: Reduction, model: SSDLite) -> None:
    """Reduce a whole SSDLite's weights (our names) to the channels of `model`, whose trunk has blocks.

    Raises:
        ValueError: the weights are narrower somewhere, or of another kind of network.
    """
    trunk = model.backbone
    assert isinstance(trunk, BlockTrunk)
    reduce_trunk(reduction, trunk, prefix="backbone.")
    kept = [kept_of_tap(reduction, trunk, tap) for tap in model.taps]
    for number, extra in enumerate(model.extras):
        inner, _, outer = (len(extra.get_parameter(f"{i}.norm.weight")) for i in range(3))
        squeezed = reduction.narrow(f"extras.{number}.0", inner, inputs=kept[-1])
        reduction.cut_norm(f"extras.{number}.1", out=squeezed)
        kept.append(reduction.narrow(f"extras.{number}.2", outer, inputs=squeezed))
    for number, channels in enumerate(kept):
        for towers in ("class_towers", "box_towers"):
            reduction.cut_norm(f"{towers}.{number}.0", out=channels)
            reduction.cut(f"{towers}.{number}.1", inputs=channels)
