"""Starting from weights: ours or others', a whole network or its backbone alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..backbones.classifier import Classifier
from ..backbones.torch_mobilenet_v2 import from_torch_mobilenet_v2, is_torch_mobilenet_v2
from ..backbones.weights import LoadReport, classifier_from_torchvision, from_torchvision, load_strict
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


# Keys of the backbone group that decide what its weights mean, or which of them there are.
SHAPING_KEYS = ("variant", "width", "min_depth", "scaling", "minimalistic", "nonlinearity", "reduced", "last")


def load_weights(
    model: nn.Module,
    weights: str | Path | Mapping[str, Any],
    *,
    source: str = "pocketvision",
    backbone: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Load weights into a network; every name has to fit, with exceptions that the report tells.

    Predictors made for another number of classes keep their fresh initialisation. Weights of a classifier, or of
    another head, fill the backbone alone; a last convolution that this backbone does not have is left out.

    Args:
        weights: a file, the folder of a run, or a state dict (also a checkpoint of ours as a dict). Of a run the moving
            average is taken where there is one. Of `tf` what `load_tf` takes.
        source: whose names they have, one of `SOURCES`. What others released of a whole network (`RELEASED`) has to
            fit without exception.
        backbone: the group that built the model's backbone, to tell which keys a run's backbone was built with
            otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no state dict, or names and shapes do not fit; they are listed.
    """
    if source not in SOURCES:
        raise ValueError(f"weights_source={source}: expected one of {', '.join(SOURCES)}")
    differences: dict[str, tuple[Any, Any]] = {}
    if source == "tf":
        state = load_tf(model, weights)
    else:
        content = weights if isinstance(weights, Mapping) else _read(Path(weights))
        differences = _differences(content, backbone)
        if any(key in ("_target_", "nonlinearity") for key in differences):  # no shape would tell
            raise ValueError(f"the weights' backbone is another one: {_told(differences)}")
        state = _state(content)
    if source in RELEASED:
        return load_strict(model, _rename_released(model, state, source))
    if source == "torchvision":
        state = _rename_torchvision(model, state)
    own_heads = {name for name in model.state_dict() if not name.startswith("backbone.")}
    heads = {name for name in state if not name.startswith("backbone.")}
    other_kind = isinstance(model, Classifier) != all(name.startswith(("hidden.", "logits.")) for name in heads)
    backbone_only = not own_heads & heads or other_kind
    if backbone_only:
        state = {name: value for name, value in state.items() if name.startswith("backbone.")}
        if not state:
            raise ValueError(
                "these weights have neither a head of this network nor a `backbone.`: of another architecture?"
            )
    try:
        report = load_strict(model, state, reinitialize=_free_prefixes(model, state, backbone_only=backbone_only))
    except ValueError as error:
        raise ValueError(f"{error}\n{_told(differences)}" if differences else str(error)) from error
    return replace(report, unexpected=(*report.unexpected, *sorted(heads if backbone_only else ())))


def describe(report: LoadReport) -> str:
    """The report in a line or two."""
    text = f"loaded {len(report.loaded)} tensors"
    if report.reinitialized:
        text += f"; {len(report.reinitialized)} stay freshly initialised ({_layers(report.reinitialized)})"
    if report.unexpected:
        text += f"; {len(report.unexpected)} have no place here ({_layers(report.unexpected)})"
    return text


def _layers(names: Iterable[str]) -> str:
    layers = sorted({name.rpartition(".")[0] for name in names})
    return ", ".join(layers[:6]) + (", ..." if len(layers) > 6 else "")


def _differences(content: Mapping[str, Any], backbone: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    """Key -> its values in the weights' configuration and in `backbone`, where both have it and they differ."""
    config = content.get("config") if content.get("format") == FORMAT else None
    theirs = config.get("backbone") if isinstance(config, Mapping) else None
    if not isinstance(theirs, Mapping) or backbone is None:
        return {}
    keys = [key for key in ("_target_", *SHAPING_KEYS) if key in theirs and key in backbone]
    return {key: (theirs[key], backbone[key]) for key in keys if theirs[key] != backbone[key]}


def _told(differences: Mapping[str, tuple[Any, Any]]) -> str:
    def text(value: Any) -> str:
        return "null" if value is None else str(value)

    rows = [f"backbone.{key} is {text(theirs)} there, {text(ours)} here" for key, (theirs, ours) in differences.items()]
    return f"{'; '.join(rows)}: build both alike"


def checkpoint_path(run: str | Path, which: str = "best") -> Path:
    """The checkpoint of a run folder (`best`, or `last` where there is no best), or the file itself.

    Raises:
        FileNotFoundError: neither.
    """
    if which not in ("best", "last"):
        raise ValueError(f"checkpoint={which}: expected best or last")
    run = Path(run)
    if run.is_file():
        return run
    for name in dict.fromkeys([which, "last"]):
        path = run / "checkpoints" / f"{name}.pt"
        if path.is_file():
            return path
    what = "has no checkpoints/best.pt or last.pt (not trained yet?)" if run.is_dir() else "does not exist"
    raise FileNotFoundError(f"{run} {what}: give the folder of a training run, or a checkpoint file")


def _read(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        path = checkpoint_path(path)
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
    if isinstance(model, Classifier):
        return classifier_from_torchvision(state)
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
        no_last = not any(name.startswith("backbone.last.") for name in own)
        spare = no_last and any(name.startswith("backbone.last.") for name in state)
        return sorted(heads | ({"backbone.last."} if spare else set()))
    if isinstance(model, SSDLite):
        predictors = [f"class_towers.{i}.1." for i in range(len(model.class_towers))]
    elif isinstance(model, LRASPP):
        predictors = ["high_logits.", "low_logits."]
    elif isinstance(model, RASPP | Classifier):
        predictors = ["logits."]
    elif isinstance(model, StandaloneNetwork):
        logits = state.get("decoder.logits.weight")
        return ["decoder."] if logits is not None and len(logits) != model.num_classes else []
    else:
        predictors = []
    return [p for p in predictors if f"{p}bias" in state and state[f"{p}bias"].shape != own[f"{p}bias"].shape]
