"""`weights_source=tf`: official TensorFlow weights for a whole network, or for its backbone alone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ...backbones.classifier import Classifier
from ...backbones.features import Backbone
from ...backbones.tf_names import classifier_from_tf_slim, from_tf_slim, is_classifier
from ...backbones.tf_settings import normalize_settings, trunk_settings
from ...backbones.tf_variables import read_variables
from ...detection.network import SSDLite
from ...detection.weights import is_tf_detector, ssdlite_from_tf, tf_detector_settings
from ...segmentation.network import LRASPP, RASPP
from ...segmentation.weights import (
    deeplab_doubts,
    deeplab_head,
    deeplab_settings,
    lraspp_from_deeplab,
    raspp_from_deeplab,
)
from ...words import counted
from ..system.console import log
from .sources import require

SLOTS_OF_COCO91 = 91


def load_tf(model: nn.Module, weights: str | Path | Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Weights for `model` under its names: all of it if they are from the same kind of network, else `backbone.`.

    Args:
        weights: a frozen graph, `.npz` or checkpoint (see `read_variables`), or the variables themselves.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read; it has unknown variables; or the network's settings differ from the ones the
            weights were trained with. For a backbone alone, which will be trained further, this is only a warning.
    """
    variables = weights if isinstance(weights, Mapping) else read_variables(weights)
    if isinstance(model, Classifier) and is_classifier(variables):
        require([*trunk_settings(model.backbone), *normalize_settings(model.backbone, model.normalize)], "tf")
        return classifier_from_tf_slim(variables)
    if isinstance(model, SSDLite) and is_tf_detector(variables):
        require(tf_detector_settings(model), "tf")
        state = ssdlite_from_tf(variables, num_taps=len(model.taps))
        _tell_other_slots(model, state)
        return state
    if isinstance(model, LRASPP | RASPP) and deeplab_head(variables) == type(model).__name__.lower():
        require(deeplab_settings(model), "tf")
        if doubts := deeplab_doubts(model):
            log.warning("the released DeepLab networks use %s; this network differs", " ".join(doubts))
        return (lraspp_from_deeplab if isinstance(model, LRASPP) else raspp_from_deeplab)(variables)
    if isinstance(model, Backbone):
        require(trunk_settings(model), "tf")
        return from_tf_slim(variables)
    if not isinstance(model.get_submodule("backbone") if hasattr(model, "backbone") else None, Backbone):
        raise ValueError(f"weights_source=tf: there are no TensorFlow weights for {type(model).__name__}")
    if keys := _backbone_settings(model):
        log.warning("TensorFlow's weights were trained with different settings; to match them, set %s", " ".join(keys))
    return from_tf_slim(variables, to="backbone.")


def _backbone_settings(model: nn.Module) -> list[str]:
    trunk, corners = model.get_submodule("backbone"), bool(getattr(model, "pad_input", False))
    keys = trunk_settings(trunk, padded_to_corners=corners)
    normalize = getattr(model, "normalize", None)
    return keys if normalize is None else [*keys, *normalize_settings(trunk, normalize)]


def _tell_other_slots(model: SSDLite, state: Mapping[str, Tensor]) -> None:
    slots = len(state["class_towers.0.1.bias"]) // model.anchor_layout.num_anchors[0]
    if slots != model.num_slots:
        remedy = "data.slots=coco91 data.num_classes=90" if slots == SLOTS_OF_COCO91 else counted(slots - 1, "class")
        log.warning(
            "these weights have %s, the network %d: the class predictors do not fit (%s would keep them)",
            counted(slots, "class slot"), model.num_slots, remedy,
        )  # fmt: skip
