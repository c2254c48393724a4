"""Starting from weights: ours or others', a whole network or its backbone alone."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..backbones import timm_names
from ..backbones.blocks import BlockTrunk
from ..backbones.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier
from ..backbones.features import Backbone
from ..backbones.mobilenet_v2 import MobileNetV2
from ..backbones.reduction import Reduction, reduce_classifier, reduce_trunk
from ..backbones.weights import (
    LoadReport,
    classifier_from_torchvision,
    from_torchvision,
    load_strict,
    trunk_settings,
)
from ..detection import weights as detection_weights
from ..detection.network import SSDLite
from ..segmentation import weights as segmentation_weights
from ..segmentation.c3net import C3Net
from ..segmentation.espnet import ESPNet
from ..segmentation.espnetv2 import ESPNetv2
from ..segmentation.network import LRASPP, RASPP
from ..segmentation.standalone import StandaloneNetwork
from .downloads import download, find_published, is_published
from .engine.report import log
from .weight_files import check_hash, read_state, state_of

State = Mapping[str, Tensor]


def load_weights(
    model: nn.Module,
    weights: str | Path | Mapping[str, Any],
    *,
    source: str = "pocketvision",
    reduce: str | None = None,
) -> LoadReport:
    """Load weights into a network; every name has to fit, with two exceptions that the report tells.

    Predictors made for another number of classes keep their fresh initialisation. Weights of a classifier, or of
    another head, fill the backbone alone.

    Args:
        weights: a file, a state dict (also a checkpoint of ours as a dict), or the name of published weights
            (`downloads.find_published`).
        source: whose names they have, a key of `SOURCES`. What others released of a whole network (`RELEASED`) has to
            fit without exception.
        reduce: `importance` or `first` chooses channels from a network that has more (`backbones.reduction`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no state dict, names and shapes do not fit (they are listed), published weights cannot
            be downloaded, or a whole network is set up to compute something else with them.
    """
    if source not in SOURCES:
        raise ValueError(f"weights_source={source}: expected one of {', '.join(SOURCES)}")
    if isinstance(weights, str) and is_published(weights):
        published = find_published(model, weights)
        if source not in ("pocketvision", published.source):
            raise ValueError(f"weights={weights} with weights_source={source}: leave weights_source out")
        weights, source = download(published), published.source
    if isinstance(weights, Mapping):
        state, file = state_of(weights), ""
    else:
        state, file = read_state(Path(weights)), Path(weights).name
        if source in ("torchvision", "timm"):
            check_hash(Path(weights))
    state = SOURCES[source](model, state)
    own_heads = {name for name in model.state_dict() if not name.startswith("backbone.")}
    backbone_only = not own_heads & state.keys()
    if source in RELEASED:
        return load_strict(model, state)
    if backbone_only:
        state = {name: value for name, value in state.items() if name.startswith("backbone.")}
        if not state:
            raise ValueError(
                "these weights have neither a head of this network nor a `backbone.`: of another architecture?"
            )
    _tell_settings(model, source, file, backbone_only=backbone_only)
    notes: tuple[str, ...] = ()
    if reduce is not None:
        state, notes = _reduced(model, state, reduce, backbone_only=backbone_only)
    report = load_strict(model, state, reinitialize=_free_prefixes(model, state, backbone_only=backbone_only))
    return replace(report, notes=notes)


def describe(report: LoadReport) -> str:
    """The report in a line or two."""
    text = f"loaded {len(report.loaded)} tensors"
    fresh = sorted({name.rpartition(".")[0] for name in report.reinitialized})
    if fresh:
        shown = ", ".join(fresh[:6]) + (", ..." if len(fresh) > 6 else "")
        text += f"; {len(report.reinitialized)} stay freshly initialised ({shown})"
    return "; ".join((text, *report.notes))


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
    raise ValueError(f"torchvision has no {type(model).__name__}: only weights of its classifiers fit the backbone")


def _from_timm(model: nn.Module, state: State) -> dict[str, Tensor]:
    if isinstance(model, Classifier):
        return timm_names.classifier_from_timm(state)
    return timm_names.from_timm(state, to="" if isinstance(model, Backbone) else "backbone.")


def _released(source: str) -> Callable[[nn.Module, State], dict[str, Tensor]]:
    return lambda model, state: _rename_released(model, state, source)


def _rename_released(model: nn.Module, state: State, source: str) -> dict[str, Tensor]:
    network, rename = RELEASED[source]
    if not isinstance(model, network):
        raise ValueError(f"weights_source={source}: its weights are for model={source}, not for {type(model).__name__}")
    renamed = rename(state)
    logits = renamed.get("decoder.logits.weight")
    if logits is not None and len(logits) != model.num_classes:
        raise ValueError(
            f"weights_source={source}: these weights have {len(logits)} outputs (Cityscapes' 19 classes and void are "
            f"20), the network {model.num_classes}, and its decoder depends on it: set data.num_classes={len(logits)}"
        )
    return renamed


# The networks that others published with weights: source -> network, how its state dict is renamed.
RELEASED: dict[str, tuple[type[StandaloneNetwork], Callable[[State], dict[str, Tensor]]]] = {
    "espnet": (ESPNet, segmentation_weights.espnet_from_released),
    "espnetv2": (ESPNetv2, segmentation_weights.espnetv2_from_released),
    "c3net": (C3Net, segmentation_weights.c3net_from_released),
}
# weights_source -> a function from the model and a state dict of theirs to one under our names.
SOURCES: dict[str, Callable[[nn.Module, State], dict[str, Tensor]]] = {
    "pocketvision": lambda model, state: dict(state),
    "torchvision": _from_torchvision,
    "timm": _from_timm,
    **{source: _released(source) for source in RELEASED},
}


def _tell_settings(model: nn.Module, source: str, file: str, *, backbone_only: bool) -> None:
    """Weights may fit a network that computes something else with them.

    Of a whole network that is an error. A backbone alone is going to be trained on, and it is only told.
    """
    trunk, keys = getattr(model, "backbone", model), []
    if source not in ("torchvision", "timm") or not isinstance(trunk, BlockTrunk):
        return
    name = re.split(r"[.-]", file)[0]
    if source == "timm":
        keys = timm_names.settings(trunk, name=name if name in timm_names.NETWORKS else None)
    else:
        eps = 1e-5 if isinstance(trunk, MobileNetV2) else 1e-3
        keys = trunk_settings(trunk, [{"bn_eps": eps, "padding": "symmetric"}])
    normalize = getattr(model, "normalize", None)
    half = name.startswith(("tf_", "mobilenetv1")) or (isinstance(model, SSDLite) and not backbone_only)
    if normalize is not None and (name in timm_names.NETWORKS or source == "torchvision"):
        wanted = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if half else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        keys += [
            f"model.network.{key}=[{','.join(map(str, value))}]"
            for key, value in wanted.items()
            if normalize.constants[key] != value
        ]
    if not backbone_only and isinstance(model, SSDLite):
        keys += detection_weights.torchvision_settings(model)
    elif not backbone_only and isinstance(model, LRASPP):
        keys += segmentation_weights.torchvision_settings(model)
    if keys and backbone_only:
        log.warning("these weights were trained with other settings; closer to them is %s", " ".join(keys))
    elif keys:
        raise ValueError(
            f"weights_source={source}: the weights would fit, but this network computes something else with them; set "
            + " ".join(keys)
        )


def _reduced(
    model: nn.Module, state: Mapping[str, Tensor], rule: str, *, backbone_only: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state with the channels that the model has, and what was left out."""
    trunk = getattr(model, "backbone", model)
    if not isinstance(trunk, BlockTrunk):
        raise ValueError(
            f"weights_reduce={rule}: {type(model).__name__} has no backbone whose channels could be chosen"
        )
    reduction = Reduction(dict(state), rule)
    if trunk is model:
        reduce_trunk(reduction, trunk)
    elif backbone_only:
        reduce_trunk(reduction, trunk, prefix="backbone.")
    elif isinstance(model, SSDLite):
        detection_weights.reduce_ssdlite(reduction, model)
    elif isinstance(model, LRASPP | RASPP):
        segmentation_weights.reduce_raspp(reduction, model)
    elif isinstance(model, Classifier):
        reduce_classifier(reduction, model)
    if not reduction.notes:
        return reduction.state, ()
    return reduction.state, (f"channels chosen by {rule}: {'; '.join(reduction.notes)}",)


def _free_prefixes(model: nn.Module, state: Mapping[str, Tensor], *, backbone_only: bool) -> list[str]:
    """What may keep its initialisation: everything but the backbone, or predictors of another number of classes."""
    own = model.state_dict()
    if backbone_only:
        return sorted({f"{name.split('.')[0]}." for name in own if not name.startswith("backbone.")})
    if isinstance(model, Classifier):
        predictors = ["logits."]
    elif isinstance(model, SSDLite):
        predictors = [f"class_towers.{i}.1." for i in range(len(model.class_towers))]
    elif isinstance(model, LRASPP):
        predictors = ["high_logits.", "low_logits."]
    elif isinstance(model, RASPP):
        predictors = ["logits."]
    elif isinstance(model, StandaloneNetwork):
        logits = state.get("decoder.logits.weight")
        return ["decoder."] if logits is not None and len(logits) != model.num_classes else []
    else:
        predictors = []
    return [p for p in predictors if f"{p}bias" in state and state[f"{p}bias"].shape != own[f"{p}bias"].shape]
