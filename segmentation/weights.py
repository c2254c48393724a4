"""Renames third-party weights to our names: torchvision's and DeepLab's LR-ASPP, ESPNet, ESPNetv2 and C3Net.

Pure functions from dictionary to dictionary; a layer they don't know is a ValueError. `backbones.weights.load_strict`
then checks names and shapes against the model.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.blocks import BlockTrunk, InvertedResidual
from ..backbones.layers import TFHardSigmoid
from ..backbones.reduction import Reduction, kept_of_tap, reduce_trunk
from ..backbones.tf_names import as_slim, layer_of, refuse_unknown, rename_tf_layers, trunk_layers
from ..backbones.tf_settings import has_eps, normalize_settings, trunk_settings
from ..backbones.weights import from_torchvision, rename_layers
from .network import LRASPP, RASPP
from .pooling import GlobalPool, WindowPool

_TORCHVISION = {
    "classifier.cbr.0": "aspp.conv",
    "classifier.cbr.1": "aspp.norm",
    "classifier.scale.1": "gate",
    "classifier.high_classifier": "high_logits",
    "classifier.low_classifier": "low_logits",
}
_DEEPLAB = {
    "aspp0": "aspp",
    "image_pooling": "gate",
    "decoder/decoder_conv0": "high_logits",
    "decoder/feature_projection0": "low_logits",
}
_DEEPLAB_EPS = 1e-5
_DEEPLAB_RASPP = {
    "aspp0": "aspp",
    "image_pooling": "image_level",
    "concat_projection": "project",
    "logits/semantic": "logits",
}


def lraspp_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of torchvision's `lraspp_mobilenet_v3_large` (no gate bias, skip `block4`)."""
    trunk = from_torchvision(state, prefix="backbone.", to="backbone.")
    head = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}
    what = f"torchvision's LR-ASPP, whose head has {', '.join(_TORCHVISION)}"
    return trunk | rename_layers(head, _TORCHVISION, what=what)


def torchvision_settings(model: LRASPP) -> list[str]:
    """What to set, as `key=value`, so that the network matches torchvision's; its weights load without it, too."""
    trunk, norm = model.backbone, model.aspp.norm
    assert isinstance(trunk, BlockTrunk)
    first = trunk.blocks[-3]  # of stride 32
    assert isinstance(first, InvertedResidual)
    right = {
        "backbone.output_stride=16": model.output_stride == 16,
        "backbone.atrous=torchvision": first.depthwise.conv.dilation[0] == 2,
        "model.network.pool=global": isinstance(model.pool, GlobalPool),
        "model.network.gate=sigmoid": isinstance(model.gate_act, nn.Sigmoid),
        "model.network.align_corners=false": not model.align_corners,
        "model.network.pad_input=false": not model.pad_input,
        "model.network.bn_eps=1e-5": norm.eps == 1e-5,
    }
    return [key for key, holds in right.items() if not holds]


def deeplab_head(variables: Mapping[str, np.ndarray]) -> str | None:
    """Which supported DeepLab head the variables have: "lraspp", "raspp" or None."""
    layers = set(map(layer_of, variables))
    if layers >= _DEEPLAB.keys():
        return "lraspp"
    return "raspp" if layers >= _DEEPLAB_RASPP.keys() and "aspp1" not in layers else None


def lraspp_from_deeplab(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename the variables of DeepLab's Lite R-ASPP, `mobilenet_v3_{large,small}_seg` or on MobileNetV2.

    Raises:
        ValueError: variables are missing or not of such a graph; they are listed.
    """
    return _from_deeplab(variables, _DEEPLAB, what="DeepLab's LR-ASPP")


def raspp_from_deeplab(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename the variables of DeepLab's R-ASPP: `aspp0`, image level features and a projection, without a decoder.

    Raises:
        ValueError: variables are missing or not of such a graph; they are listed.
    """
    renamed = _from_deeplab(variables, _DEEPLAB_RASPP, what="DeepLab's R-ASPP")
    joined = renamed["project.conv.weight"]  # image level features come first there
    at = len(renamed["image_level.conv.weight"])
    return renamed | {"project.conv.weight": torch.cat((joined[:, at:], joined[:, :at]), dim=1)}


def _from_deeplab(variables: Mapping[str, np.ndarray], head: Mapping[str, str], *, what: str) -> dict[str, Tensor]:
    variables = as_slim(variables)
    _, trunk = trunk_layers(variables)
    layers = {layer: f"backbone.{ours}" for layer, ours in trunk.items()} | dict(head)
    refuse_unknown(variables, layers.keys(), what=f"{what}, whose head has {', '.join(head)}")
    return rename_tf_layers(variables, layers)


def deeplab_settings(model: LRASPP | RASPP) -> list[str]:
    """The keys to set, as `key=value`, to reproduce the results of a DeepLab graph."""
    keys = [
        *trunk_settings(model.backbone, padded_to_corners=model.pad_input),
        *normalize_settings(model.backbone, model.normalize),
    ]
    if not model.align_corners:
        keys.append("model.network.align_corners=true")
    if not all(has_eps(part, _DEEPLAB_EPS) for name, part in model.named_children() if name != "backbone"):
        keys.append(f"model.network.bn_eps={_DEEPLAB_EPS}")
    return keys


def deeplab_doubts(model: LRASPP | RASPP) -> list[str]:
    """Keys, as `key=value`, that the released networks set and this one does not; other networks may not need them."""
    if not isinstance(model, LRASPP):
        return []
    keys = []
    if not isinstance(model.gate_act, TFHardSigmoid):
        keys.append("model.network.gate=qsigmoid")
    if not isinstance(model.pool, WindowPool):
        keys.append("model.network.pool=reference")
    return keys


def reduce_raspp(reduction: Reduction, model: LRASPP | RASPP) -> None:
    """Reduce the weights of a whole (Lite) R-ASPP (our names) to the channels of `model`, whose trunk has blocks.

    Raises:
        ValueError: the weights are narrower somewhere, or of another kind of network.
    """
    trunk = model.backbone
    assert isinstance(trunk, BlockTrunk)
    reduce_trunk(reduction, trunk, prefix="backbone.")
    high = kept_of_tap(reduction, trunk, model.taps[-1])
    out = reduction.narrow("aspp", model.aspp.conv.out_channels, inputs=high)
    if isinstance(model, LRASPP):  # the gate multiplies the filters one by one
        reduction.cut("gate", out=out, inputs=high)
        reduction.cut("high_logits", inputs=out)
        reduction.cut("low_logits", inputs=kept_of_tap(reduction, trunk, model.taps[0]))
        return
    whole = reduction.narrow("image_level", model.image_level.conv.out_channels, inputs=high)
    both = torch.cat((out, whole + len(reduction.scale("project"))))
    joined = reduction.narrow("project", model.project.conv.out_channels, inputs=both)
    reduction.cut("logits", inputs=joined)


# ---- ESPNet, ESPNetv2 and C3Net: regular expression of a layer's released name -> its name here ----

_RELEASED_NORM = {"conv": "conv", "bn": "norm", "act": "act"}
_PYRAMID_FRAME = {
    r"encoder\.classifier\.conv": "decoder.classify3",
    r"br": "decoder.norm3",
    r"up_l3\.0": "decoder.up3",
    r"level3_C\.conv": "decoder.classify2",
    r"up_l2\.0": "decoder.up2",
    r"classifier": "decoder.logits",
    **{rf"encoder\.level1\.{theirs}": f"encoder.stem.{ours}" for theirs, ours in _RELEASED_NORM.items()},
    **{rf"encoder\.b(\d)\.{theirs}": rf"encoder.join\1.{ours}" for theirs, ours in _RELEASED_NORM.items()},
    **{rf"combine_l2_l3\.0\.{theirs}": f"decoder.join2.{ours}" for theirs, ours in _RELEASED_NORM.items()},
    **{rf"up_l2\.1\.{theirs}": f"decoder.norm2.{ours}" for theirs, ours in _RELEASED_NORM.items()},
    **{rf"conv\.{theirs}": f"decoder.refine.{ours}" for theirs, ours in _RELEASED_NORM.items()},
}
_PYRAMID_UNITS = {
    r"encoder\.level(\d)_0": r"encoder.down\1",
    r"encoder\.level(\d)\.(\d+)": r"encoder.stage\1.\2",
    r"combine_l2_l3\.1": "decoder.merge",
}
_PYRAMID_PARTS = {
    r"c1\.conv": "reduce",
    r"(?:bn\.)?bn": "join.norm",  # directly in the units that halve the resolution
    r"(?:bn\.)?act": "join.act",
}
_ESP_PARTS = {rf"d{2**index}\.conv": f"branches.{index}" for index in range(5)}
_C3_LAYERS = ("column", "column_norm", "act", "row", "row_norm", "dilated", "project")
_C3_PARTS = {
    rf"d{branch}\.conv\.{index}": f"branches.{branch - 1}.{layer}"
    for branch in range(1, 5)
    for index, layer in enumerate(_C3_LAYERS)
}
_EESP_UNITS = {
    r"base_net\.level(\d)_0\.eesp": r"encoder.down\1.eesp",
    r"base_net\.level(\d)\.(\d+)": r"encoder.stage\1.\2",
}
_EESP_PARTS = {
    **{rf"proj_1x1\.{theirs}": f"reduce.{ours}" for theirs, ours in _RELEASED_NORM.items()},
    **{rf"spp_dw\.{index}\.conv": f"branches.{index}" for index in range(4)},
    **{rf"br_after_cat\.{theirs}": f"join.{ours}" for theirs, ours in _RELEASED_NORM.items()},
    **{rf"conv_1x1_exp\.{theirs}": f"expand.{ours}" for theirs, ours in _RELEASED_NORM.items()},
}


def _joined(units: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    return {rf"{unit}\.{part}": f"{units[unit]}.{parts[part]}" for unit in units for part in parts}


_ESPNET = _PYRAMID_FRAME | _joined(_PYRAMID_UNITS, _PYRAMID_PARTS | _ESP_PARTS)
_C3NET = _PYRAMID_FRAME | _joined(_PYRAMID_UNITS, _PYRAMID_PARTS | _C3_PARTS)


def _espnetv2_rules() -> dict[str, str | None]:
    rules: dict[str, str | None] = dict(_joined(_EESP_UNITS, _EESP_PARTS))
    rules[r"base_net\.level\d_0\.eesp\.module_act"] = None  # the released `forward` never calls it
    rules[r"base_net\.level(\d)\.(\d+)\.module_act"] = r"encoder.stage\1.\2.act"
    rules[r"base_net\.level(\d)_0\.act"] = r"encoder.down\1.act"
    for theirs, ours in _RELEASED_NORM.items():
        rules[rf"base_net\.level1\.{theirs}"] = f"encoder.stem.{ours}"
        rules[rf"base_net\.level(\d)_0\.inp_reinf\.(\d)\.{theirs}"] = rf"encoder.down\1.image.\2.{ours}"
    for index in range(4):
        pool, after = rf"bu_dec_l{index + 1}\.", rf"l{index + 2}"
        rules[rf"{pool}stages\.(\d)"] = rf"decoder.pools.{index}.scales.\1"
        rules[rf"{pool}merge_layer\.3"] = f"decoder.projects.{index}.conv" if index < 3 else "decoder.logits"
        for number, ours in enumerate(_RELEASED_NORM.values()):
            rules[rf"{pool}projection_layer\.cbr\.{number}"] = f"decoder.pools.{index}.reduce.{ours}"
            rules[rf"{pool}merge_layer\.2\.cbr\.{number}"] = f"decoder.pools.{index}.mix.{ours}"
            rules[rf"merge_enc_dec_{after}\.expansion_layer\.cbr\.{number}"] = f"decoder.skips.{index}.expand.{ours}"
        for number, ours in enumerate(("norm", "act")):
            rules[rf"{pool}merge_layer\.0\.br\.{number}"] = f"decoder.pools.{index}.join.{ours}"
            rules[rf"{pool}br\.br\.{number}"] = f"decoder.projects.{index}.{ours}"
            rules[rf"bu_br_{after}\.{number}"] = f"decoder.norms.{index}.{ours}"
        rules[rf"merge_enc_dec_{after}\.wt_layer\.1"] = f"decoder.skips.{index}.gate"
    return rules


_ESPNETV2 = _espnetv2_rules()


def espnet_from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of sacmehta/ESPNet's ESPNet (pretrained/decoder/espnet_p_2_q_*.pth: 20 classes)."""
    return _renamed(state, _ESPNET, network="ESPNet")


def espnetv2_from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of sacmehta/EdgeNets' ESPNetv2 for segmentation (espnetv2_s_*_city_*.pth: 20 classes)."""
    return _renamed(state, _ESPNETV2, network="ESPNetv2")


def c3net_from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of clovaai/c3_sinet's C3Net (C3Net_setting2.pth: 20 classes)."""
    return _renamed(state, _C3NET, network="C3Net")


def _renamed(state: Mapping[str, Tensor], rules: Mapping[str, str | None], *, network: str) -> dict[str, Tensor]:
    """Rename by the first rule that matches the whole name of a layer; layers whose rule is None are dropped."""
    renamed = {}
    for name, tensor in state.items():
        layer, _, leaf = name.rpartition(".")
        found = next(((match, ours) for theirs, ours in rules.items() if (match := re.fullmatch(theirs, layer))), None)
        if found is None:
            raise ValueError(
                f"{name} is not a tensor of the released {network}; the first tensor is {next(iter(state))}"
            )
        match, ours = found
        if ours is not None:
            renamed[f"{match.expand(ours)}.{leaf}"] = tensor
    return renamed
