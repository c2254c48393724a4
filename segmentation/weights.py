"""Weights of torchvision's LR-ASPP and of the official DeepLab graphs under the names of `LRASPP`.

Pure functions from dictionary to dictionary; a layer they don't know is a ValueError. `backbones.weights.load_strict`
then checks names and shapes against the model.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ..backbones.weights import from_tf_slim, from_torchvision, rename_tf_layers

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


def lraspp_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of torchvision's `lraspp_mobilenet_v3_large` (no gate bias, skip `block4`)."""
    renamed = from_torchvision(state, prefix="backbone.", to="backbone.")
    for name, tensor in state.items():
        if not name.startswith("backbone."):
            layer, _, leaf = name.rpartition(".")
            if layer not in _TORCHVISION:
                raise ValueError(
                    f"{name} is no tensor of torchvision's LR-ASPP; its head has {', '.join(_TORCHVISION)}"
                )
            renamed[f"{_TORCHVISION[layer]}.{leaf}"] = tensor
    return renamed


def lraspp_from_deeplab(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename the variables of DeepLab's `mobilenet_v3_{large,small}_seg` graphs (TF layout, names without `:0`).

    A checkpoint's step counter and optimizer slots are left out.
    """
    known = ("MobilenetV3/", *(f"{scope}/" for scope in _DEEPLAB), "global_step")
    for name in variables:
        if not name.startswith(known):
            raise ValueError(f"{name} is no variable of DeepLab's LR-ASPP; its head has {', '.join(_DEEPLAB)}")
    return from_tf_slim(variables, to="backbone.") | rename_tf_layers(variables, _DEEPLAB)
