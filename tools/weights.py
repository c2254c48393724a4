"""Starting from weights: ours or others', a whole network or its backbone alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..backbones.torch_mobilenet_v2 import from_torch_mobilenet_v2, is_torch_mobilenet_v2
from ..backbones.weights import LoadReport, from_torchvision, load_strict
from ..detection.network import SSDLite
from ..detection.weights import ssdlite_from_torchvision
from ..segmentation.c3net import C3Net
from ..segmentation.espnet import ESPNet
from ..segmentation.espnetv2 import ESPNetv2
from ..segmentation.network import LRASPP, RASPP
from ..segmentation.standalone import StandaloneNetwork
from ..segmentation.weights import (
    c3net_from_released,
    espnet_from_released,
    espnetv2_from_released,
    lraspp_from_torchvision,
)
from .engine.state import FORMAT, read_tensors
from .tf_weights import load_tf

Renaming = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

# The networks that others published with weights: source -> network, how its state dict is renamed.
RELEASED: dict[str, tuple[type[StandaloneNetwork], Renaming]] = {
    "espnet": (ESPNet, espnet_from_released),
    "espnetv2": (ESPNetv2, espnetv2_from_released),
    "c3net": (C3Net, c3net_from_released),
}
SOURCES = ("pocketvision", "torchvision", "tf", *RELEASED)


def load_weights(
    model: nn.Module, weights: str | Path | Mapping[str, Any], *, source: str = "pocketvision"
) -> LoadReport:
    """Load weights into a network; every name has to fit, with two exceptions that the report tells.

    Predictors made for another number of classes keep their fresh initialisation. Weights of a classifier, or of
    another head, fill the backbone alone.

    Args:
        weights: a file, or a state dict (also a checkpoint of ours as a dict); of `tf` what `load_tf` takes.
        source: whose names they have, one of `SOURCES`. What others released of a whole network (`RELEASED`) has to
            fit without exception.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no state dict, or names and shapes do not fit; they are listed.
    """
    if source not in SOURCES:
        raise ValueError(f"weights_source={source}: expected one of {', '.join(SOURCES)}")
    if source == "tf":
        state = load_tf(model, weights)
    else:
        state = _state(weights if isinstance(weights, Mapping) else _read(Path(weights)))
    if source in RELEASED:
        return load_strict(model, _rename_released(model, state, source))
    if source == "torchvision":
        state = _rename_torchvision(model, state)
    own_heads = {name for name in model.state_dict() if not name.startswith("backbone.")}
    backbone_only = not own_heads & state.keys()
    if backbone_only:
        state = {name: value for name, value in state.items() if name.startswith("backbone.")}
        if not state:
            raise ValueError(
                "these weights have neither a head of this network nor a `backbone.`: of another architecture?"
            )
    return load_strict(model, state, reinitialize=_free_prefixes(model, state, backbone_only=backbone_only))


def describe(report: LoadReport) -> str:
    """The report in a line or two."""
    text = f"loaded {len(report.loaded)} tensors"
    fresh = sorted({name.rpartition(".")[0] for name in report.reinitialized})
    if fresh:
        shown = ", ".join(fresh[:6]) + (", ..." if len(fresh) > 6 else "")
        text += f"; {len(report.reinitialized)} stay freshly initialised ({shown})"
    if report.unexpected:
        left_out = sorted({name.rpartition(".")[0] for name in report.unexpected})
        text += f"; {len(report.unexpected)} of the weights have no place here ({', '.join(left_out[:6])})"
    return text


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"weights={path}: no such file")
    content = read_tensors(path, label=f"weights={path}", what="state dict")
    if not isinstance(content, Mapping):
        raise ValueError(f"weights={path} holds a {type(content).__name__}, not a state dict")
    return content


def _state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    if content.get("format") == FORMAT:
        content = content["ema"] or content["model"]
    inner = content.get("model")  # how torchvision's reference scripts save
    return {k: v for k, v in (inner if isinstance(inner, Mapping) else content).items() if isinstance(v, Tensor)}


def _rename_torchvision(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    if any(name.startswith("features.") for name in state):  # an ImageNet classifier
        rename = from_torch_mobilenet_v2 if is_torch_mobilenet_v2(state) else from_torchvision
        return rename(state, to="backbone.")
    if isinstance(model, SSDLite):
        return ssdlite_from_torchvision(state)
    if isinstance(model, LRASPP):
        return lraspp_from_torchvision(state)
    raise ValueError(f"torchvision has no {type(model).__name__}: only weights of its classifiers fit the backbone")


def _rename_released(model: nn.Module, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
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


def _free_prefixes(model: nn.Module, state: Mapping[str, Tensor], *, backbone_only: bool) -> list[str]:
    """What may keep its initialisation: everything but the backbone, or predictors of another number of classes."""
    own = model.state_dict()
    if backbone_only:
        heads = {f"{name.split('.')[0]}." for name in own if not name.startswith("backbone.")}
        last = "backbone.last."  # the convolution before pooling, which some heads do without
        return sorted(heads | {last} if f"{last}conv.weight" in state.keys() - own.keys() else heads)
    if isinstance(model, SSDLite):
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
