"""Loading pretrained weights, ours or third-party: a whole network or its backbone alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ...backbones.blocks import BlockTrunk
from ...backbones.classifier import Classifier
from ...backbones.layers import Normalize
from ...backbones.reduction import Reduction, reduce_classifier, reduce_trunk
from ...backbones.weights import LoadReport, load_strict, picture_settings
from ...detection.network import SSDLite
from ...detection.weights import reduce_ssdlite
from ...segmentation.network import LRASPP, RASPP
from ...segmentation.standalone import StandaloneNetwork
from ...segmentation.weights import reduce_raspp
from ..engine.state import FORMAT, check_not_nan
from .downloads import download, find_published, is_published
from .files import check_hash, read_content, state_of
from .sources import SOURCES, ConflictError, tell_settings
from .tensorflow import load_tf

# Keys of the backbone group that determine which weights there are, or what they mean.
SHAPING_KEYS = (
    "_target_", "variant", "width", "min_depth", "divisor", "scaling", "minimalistic", "nonlinearity", "reduced",
    "last",
)  # fmt: skip
# And those that change what the backbone computes with weights that fit.
COMPUTING_KEYS = ("bn_eps", "padding", "gate")
_PLAIN = str | int | float | None  # anything else in a hostile configuration cannot be compared

Differences = Mapping[str, tuple[Any, Any]]  # key -> value there, value here


def load_weights(
    model: nn.Module,
    weights: str | Path | Mapping[str, Any],
    *,
    source: str = "pocketvision",
    reduce: str | None = None,
    backbone: Mapping[str, Any] | None = None,
    new_predictors: bool = False,
) -> LoadReport:
    """Load weights into a network; every name must fit, except for those in the report.

    Weights of a classifier, or with a different head, only fill the backbone; a last convolution that this backbone
    does not have is dropped.

    Args:
        weights: a file, the folder of a run, a state dict (also a checkpoint of ours as a dict), or the name of
            published weights (`downloads.find_published`). For a run, the moving average is used if there is one.
        source: the format of their names, a key of `SOURCES`, or `tf` (see `load_tf`).
        reduce: `importance` or `first` selects channels from a wider network (`backbones.reduction`).
        backbone: the group that built the model's backbone, to report which keys of a run's backbone differ.
        new_predictors: predictors for another number of classes keep their random initialization.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a state dict, names and shapes do not fit (they are listed), published weights
            cannot be downloaded, or a whole network has different settings than its weights were trained with.
    """
    if source not in (*SOURCES, "tf"):
        raise ValueError(f"weights_source={source}: expected one of {', '.join(SOURCES)}, tf")
    if isinstance(weights, str) and is_published(weights):
        published = find_published(model, weights)
        if source not in ("pocketvision", published.source):
            raise ValueError(f"weights={weights} with weights_source={source}: drop weights_source")
        weights, source = download(published), published.source
    with _naming(weights):
        if source == "tf":  # variables, not a state dict
            state = load_tf(model, weights)
            return _load(model, state, source=source, reduce=reduce, new_predictors=new_predictors)
        return _load_states(
            model, weights, source=source, reduce=reduce, backbone=backbone, new_predictors=new_predictors
        )


@contextmanager
def _naming(weights: str | Path | Mapping[str, Any]) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except ValueError as error:
        if isinstance(weights, Mapping) or str(weights) in str(error):
            raise
        told = f"weights={weights}: {error}"
        raise (ConflictError(told, error.keys) if isinstance(error, ConflictError) else ValueError(told)) from error


def _load_states(
    model: nn.Module, weights: str | Path | Mapping[str, Any], *, source: str, reduce: str | None,
    backbone: Mapping[str, Any] | None, new_predictors: bool,
) -> LoadReport:  # fmt: skip
    """`load_weights` for a state dict."""
    path = None if isinstance(weights, Mapping) else Path(weights)
    if path and source in ("torchvision", "timm"):
        check_hash(path)
    content = weights if isinstance(weights, Mapping) else read_content(Path(weights))
    config = config_in(content)
    differences = _differences(config, backbone, SHAPING_KEYS)
    if any(key in ("_target_", "nonlinearity") for key in differences):  # shapes would not reveal it
        raise ValueError(f"the weights are for a different backbone: {_told(differences)}")
    theirs = state_of(content)
    if any(name.startswith("__nncf_hooks.") for name in theirs):
        raise ValueError("they were trained in eight bits (quantize=): expected weights in floating point")
    try:
        state = SOURCES[source](model, theirs)
    except ValueError as error:
        label = f"weights={weights}" if path else "these weights"
        raise ValueError(f"{label}, weights_source={source}: {error}") from error
    report = _load(
        model, state, source=source, file=path.name if path else "", reduce=reduce, differences=differences,
        settings=_computing_keys(config, model, backbone), new_predictors=new_predictors,
    )  # fmt: skip
    renamed = {tensor.data_ptr() for tensor in state.values()}  # not the tensors themselves, which may be reshaped
    left_out = tuple(name for name, tensor in theirs.items() if tensor.data_ptr() not in renamed)
    return replace(report, unexpected=(*report.unexpected, *left_out))


def _load(
    model: nn.Module,
    state: dict[str, Tensor],
    *,
    source: str,
    reduce: str | None,
    new_predictors: bool,
    file: str = "",
    differences: Differences = MappingProxyType({}),
    settings: Sequence[str] = (),
) -> LoadReport:
    own_heads = {name for name in model.state_dict() if not name.startswith("backbone.")}
    heads = {name for name in state if not name.startswith("backbone.")}
    other_kind = isinstance(model, Classifier) != all(name.startswith(("hidden.", "logits.")) for name in heads)
    backbone_only = not own_heads & heads or other_kind
    if backbone_only:
        state = {name: value for name, value in state.items() if name.startswith("backbone.")}
        if not state:
            raise ValueError(
                "these weights contain neither this network's head nor a `backbone.`: a different architecture?"
            )
    tell_settings(model, source, file, of_run=settings, backbone_only=backbone_only)
    notes: tuple[str, ...] = ()
    if reduce is not None:
        state, notes = _reduced(model, state, reduce, backbone_only=backbone_only)
    fresh = _free_prefixes(model, state, backbone_only=backbone_only)
    if fresh and not backbone_only and not new_predictors:
        names = ", ".join(f"{prefix}*" for prefix in fresh)
        raise ConflictError(
            f"these weights predict another number of classes than this network ({names}): set "
            f"{_class_keys(model, state)}; for training, weights_new_predictors=true re-initializes the predictors",
            ["weights_new_predictors=true"],
        )
    check_not_nan(state, file or "these weights")
    try:
        report = load_strict(model, state, reinitialize=fresh)
    except ValueError as error:
        hint = _told(differences) if differences else ""
        if source == "pocketvision" and not state.keys() & model.state_dict().keys():
            hint = (
                f"No tensor name matches: set the source of the weights, weights_source={', '.join((*SOURCES, 'tf'))}"
            )
        raise ValueError(f"{error}\n{hint}".strip()) from error
    unexpected = (*report.unexpected, *sorted(heads if backbone_only else ()))
    return replace(report, unexpected=unexpected, notes=notes)


def config_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration in one of our checkpoints, unvalidated; empty if there is none."""
    config = content.get("config") if content.get("format") == FORMAT else None
    return config if isinstance(config, Mapping) else {}


def _differences(config: Mapping[str, Any], backbone: Mapping[str, Any] | None, keys: Sequence[str]) -> Differences:
    """Key -> its values in the weights' configuration and in `backbone`, if both have it and they differ."""
    theirs = config.get("backbone")
    if not isinstance(theirs, Mapping) or backbone is None:
        return {}
    keys = [key for key in keys if key in theirs and key in backbone]
    told = {key: theirs[key] if isinstance(theirs[key], _PLAIN) else type(theirs[key]).__name__ for key in keys}
    return {key: (told[key], backbone[key]) for key in keys if told[key] != backbone[key]}


def _computing_keys(config: Mapping[str, Any], model: nn.Module, backbone: Mapping[str, Any] | None) -> list[str]:
    """Settings of the weights' run, as `key=value`, that differ here and change the results, though the weights fit."""
    trunk = [f"backbone.{key}={value}" for key, (value, _) in _differences(config, backbone, COMPUTING_KEYS).items()]
    try:
        network = config["model"]["network"]
        mean, std = ([float(value) for value in network[key]] for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError):
        return trunk  # not one of our networks with these settings
    normalize = getattr(model, "normalize", None)  # a backbone alone has none
    return [*trunk, *(picture_settings(normalize, mean=mean, std=std) if isinstance(normalize, Normalize) else ())]


def _told(differences: Differences) -> str:
    def text(value: Any) -> str:
        return "null" if value is None else str(value)

    rows = [f"backbone.{key} is {text(theirs)} there, {text(ours)} here" for key, (theirs, ours) in differences.items()]
    wider = " (weights_reduce=importance selects channels from wider weights)"
    return (
        f"{'; '.join(rows)}: use the same settings for both{wider if {'width', 'reduced'} & differences.keys() else ''}"
    )


def _class_keys(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The keys that set the number of classes; with values, for networks that may have an output for void."""
    if not isinstance(model, StandaloneNetwork):
        return "data.num_classes to the weights' number"
    outputs = len(state["decoder.logits.weight"])
    return f"data.num_classes={outputs} (or model.network.void=true and data.num_classes={outputs - 1})"


def _reduced(
    model: nn.Module, state: Mapping[str, Tensor], rule: str, *, backbone_only: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state reduced to the model's channels, and notes on what was dropped."""
    trunk = getattr(model, "backbone", model)
    if not isinstance(trunk, BlockTrunk):
        raise ValueError(
            f"weights_reduce={rule}: {type(model).__name__} has no backbone whose channels can be selected"
        )
    reduction = Reduction(dict(state), rule)
    if trunk is model or backbone_only:
        reduce_trunk(reduction, trunk, prefix="" if trunk is model else "backbone.")
    elif isinstance(model, SSDLite):
        reduce_ssdlite(reduction, model)
    elif isinstance(model, LRASPP | RASPP):
        reduce_raspp(reduction, model)
    elif isinstance(model, Classifier):
        reduce_classifier(reduction, model)
    if not reduction.notes:
        return reduction.state, ()
    return reduction.state, (f"channels selected by {rule}: {'; '.join(reduction.notes)}",)


def _free_prefixes(model: nn.Module, state: Mapping[str, Tensor], *, backbone_only: bool) -> list[str]:
    """What may keep its initialization: everything but the backbone, or predictors for another number of classes."""
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
        return ["decoder."] if logits is not None and len(logits) != model.num_outputs else []
    else:
        predictors = []
    return [p for p in predictors if f"{p}bias" in state and state[f"{p}bias"].shape != own[f"{p}bias"].shape]
