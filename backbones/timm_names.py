"""Renames timm's MobileNets and MnasNets to our names, and finds our networks that compute the same."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .blocks import BlockTrunk, InvertedResidual
from .classifier import IMAGENET_MEAN, IMAGENET_STD
from .mnasnet import MnasNet
from .mobilenet_v1 import MobileNetV1
from .mobilenet_v2 import MobileNetV2
from .mobilenet_v3 import MobileNetV3
from .weights import rename_layers, trunk_settings


class Published(NamedTuple):
    """A timm network: our equivalent trunk, and the tag of timm's default weights."""

    trunk: type[BlockTrunk]
    options: dict[str, Any]  # of the trunk, in addition to `CONVENTIONS`
    tag: str | None  # None: timm describes the network but has no weights


# Batch norm and padding of timm's own weights, and of those it converted from TensorFlow.
CONVENTIONS: dict[str, dict[str, Any]] = {
    "": {"bn_eps": 1e-5, "padding": "symmetric"},
    "tf_": {"bn_eps": 1e-3, "padding": "same"},
}
_V1, _V2, _V3, _MNAS = MobileNetV1, MobileNetV2, MobileNetV3, MnasNet
NETWORKS: dict[str, Published] = {
    "mobilenetv1_100": Published(_V1, {}, "ra4_e3600_r224_in1k"),
    "mobilenetv1_125": Published(_V1, {"width": 1.25}, "ra4_e3600_r224_in1k"),
    "mobilenetv2_035": Published(_V2, {"width": 0.35}, None),
    "mobilenetv2_050": Published(_V2, {"width": 0.5}, "lamb_in1k"),
    "mobilenetv2_075": Published(_V2, {"width": 0.75}, None),
    "mobilenetv2_100": Published(_V2, {}, "ra_in1k"),
    "mobilenetv2_140": Published(_V2, {"width": 1.4}, "ra_in1k"),
    "mobilenetv3_large_075": Published(_V3, {"width": 0.75}, None),
    "mobilenetv3_large_100": Published(_V3, {}, "ra_in1k"),
    "mobilenetv3_small_050": Published(_V3, {"variant": "small", "width": 0.5, "stem": "unscaled"}, "lamb_in1k"),
    "mobilenetv3_small_075": Published(_V3, {"variant": "small", "width": 0.75}, "lamb_in1k"),
    "mobilenetv3_small_100": Published(_V3, {"variant": "small"}, "lamb_in1k"),
    "tf_mobilenetv3_large_075": Published(_V3, {"width": 0.75}, "in1k"),
    "tf_mobilenetv3_large_100": Published(_V3, {}, "in1k"),
    "tf_mobilenetv3_large_minimal_100": Published(_V3, {"minimalistic": True}, "in1k"),
    "tf_mobilenetv3_small_075": Published(_V3, {"variant": "small", "width": 0.75}, "in1k"),
    "tf_mobilenetv3_small_100": Published(_V3, {"variant": "small"}, "in1k"),
    "tf_mobilenetv3_small_minimal_100": Published(_V3, {"variant": "small", "minimalistic": True}, "in1k"),
    "semnasnet_050": Published(_MNAS, {"width": 0.5}, None),
    "semnasnet_075": Published(_MNAS, {"width": 0.75}, "rmsp_in1k"),
    "semnasnet_100": Published(_MNAS, {}, "rmsp_in1k"),
    "mnasnet_small": Published(_MNAS, {"variant": "small", "first_residual": True}, "lamb_in1k"),
}
# Similar timm networks, and why no trunk here is equivalent.
OTHERS = {
    "mobilenetv1_100h": "has an extra convolution before pooling",
    "mobilenetv2_110d": "is deeper than MobileNetV2",
    "mobilenetv2_120d": "is deeper than MobileNetV2",
    "mobilenetv3_large_150d": "is deeper than MobileNetV3",
    "mobilenetv3_rw": "has no residual in its first block",
    "semnasnet_140": "keeps 1280 channels in its last convolution",
    **{f"mnasnet_{width}": "is MnasNet-B1, not A1 (semnasnet_*)" for width in ("050", "075", "100", "140")},
}


def conventions(name: str) -> dict[str, Any]:
    """Batch norm's epsilon and the padding of timm's network of this name."""
    return CONVENTIONS["tf_" if name.startswith("tf_") else ""]


def mean_std(file: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for timm's weights in a file of this name (NAME, NAME.TAG, NAME-HASH)."""
    if "miil_" in file:
        return (0.0,) * 3, (1.0,) * 3
    if file.startswith(("tf_", "mobilenetv1_")) or "ra4_e3600" in file:
        return (0.5,) * 3, (0.5,) * 3
    return IMAGENET_MEAN, IMAGENET_STD


def settings(trunk: BlockTrunk, *, name: str | None = None) -> list[str]:
    """What to set, as `key=value`, so that the trunk matches timm's with these weights.

    Args:
        name: timm's name of the network, if known; without it either of timm's `CONVENTIONS` is accepted.
    """
    keys = trunk_settings(trunk, [conventions(name)] if name else list(CONVENTIONS.values()))
    first = trunk.blocks[0]
    assert isinstance(first, InvertedResidual)
    # Small's stem and first block have eight channels.
    if isinstance(trunk, MnasNet) and trunk.stem.conv.out_channels == first.project.conv.out_channels == 8:
        keys += [] if first.residual else ["backbone.first_residual=true"]
    return keys


_EXPANDED = {"conv_pw": "expand.conv", "bn1": "expand.norm", "conv_dw": "depthwise.conv", "bn2": "depthwise.norm",
             "conv_pwl": "project.conv", "bn3": "project.norm"}  # fmt: skip
_SEPARABLE = {"conv_dw": "depthwise.conv", "bn1": "depthwise.norm", "conv_pw": "project.conv", "bn2": "project.norm"}
_GATE = {"se.conv_reduce": "se.squeeze", "se.conv_expand": "se.excite"}
_LAST = {"conv": "conv", "bn1": "norm"}  # V3's: a stage of its own
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")


def from_timm(state: Mapping[str, Tensor], *, to: str = "") -> dict[str, Tensor]:
    """Rename the trunk of a timm MobileNetV1, V2, V3 or MnasNet; `to` is prefixed to our names.

    The classifier is dropped.
    """
    layers = _trunk_layers(state)
    head = {"conv_head", "classifier"} - layers.keys()
    trunk = {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] not in head}
    return rename_layers(trunk, layers, what="a timm MobileNet or MnasNet", to=to)


def classifier_from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a timm MobileNetV1, V2, V3 or MnasNet to that of our `Classifier`."""
    layers = {"classifier": "logits"} if "bn2.weight" in state else {"classifier": "logits", "conv_head": "hidden"}
    head = {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] in layers}
    # 1x1 convolutions there, linear layers here.
    head = {name: tensor.flatten(1) if tensor.ndim == 4 else tensor for name, tensor in head.items()}
    return from_timm(state, to="backbone.") | rename_layers(head, layers, what="a timm classifier")


def _trunk_layers(state: Mapping[str, Tensor]) -> dict[str, str]:
    """timm's layers of the trunk -> ours. timm numbers blocks within stages; here they are numbered throughout."""
    if "conv_stem.weight" not in state:
        raise ValueError(
            f"no conv_stem.weight, which timm's networks have; the first tensor is {next(iter(state), None)!r}"
        )
    layers = {"conv_stem": "stem.conv", "bn1": "stem.norm"}
    if "bn2.weight" in state:  # V2 and MnasNet
        layers |= {"conv_head": "last.conv", "bn2": "last.norm"}
    blocks = sorted({(int(m[1]), int(m[2])) for name in state if (m := _BLOCK.fullmatch(name))})
    for number, (stage, block) in enumerate(blocks):
        theirs = f"blocks.{stage}.{block}."
        if f"{theirs}conv.weight" in state:
            layers |= {theirs + part: f"last.{ours}" for part, ours in _LAST.items()}
            continue
        parts = _GATE | (_EXPANDED if f"{theirs}conv_pwl.weight" in state else _SEPARABLE)
        layers |= {theirs + part: f"blocks.{number}.{ours}" for part, ours in parts.items()}
    return layers
