"""Weights of other libraries under our names, and a loader that never leaves a tensor out in silence.

Renaming is a pure function from dictionary to dictionary; shapes are checked where the weights are loaded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .blocks import BlockTrunk
from .layers import SamePaddedConv2d, SqueezeExcite, TFHardSigmoid

_SHOWN = 12  # names in a message

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class LoadReport:
    """What happened to every name of a load: names are the model's, `unexpected` ones the source's."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # in the model, not in the source
    unexpected: tuple[str, ...]  # in the source, not in the model
    mismatched: dict[str, Shapes]  # name -> shapes in the source and in the model
    notes: tuple[str, ...] = ()  # what was changed on the way, such as channels left out

    @property
    def reinitialized(self) -> tuple[str, ...]:
        """The model's names that keep the values they had before."""
        return (*self.missing, *self.mismatched)


def load_strict(model: nn.Module, state: Mapping[str, Tensor], *, reinitialize: Sequence[str] = ()) -> LoadReport:
    """Copy `state` into `model` if names and shapes agree, else raise ValueError and change nothing.

    Names that start with one of `reinitialize` need not agree: where they don't, the model keeps what it has, and the
    report lists them.
    """
    if isinstance(reinitialize, str):
        raise ValueError(f"reinitialize is a list of prefixes, got the string {reinitialize!r}")
    own = model.state_dict()
    shared = own.keys() & state.keys()
    mismatched = {
        name: (tuple(state[name].shape), tuple(own[name].shape))
        for name in own
        if name in shared and state[name].shape != own[name].shape
    }
    report = LoadReport(
        loaded=tuple(name for name in own if name in shared and name not in mismatched),
        # Files of old versions and of other frameworks do not count batches, and nothing here uses that number.
        missing=tuple(name for name in own if name not in shared and not name.endswith(".num_batches_tracked")),
        unexpected=tuple(name for name in state if name not in shared),
        mismatched=mismatched,
    )
    _refuse_disagreement(report, allowed=tuple(reinitialize))
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report


def _refuse_disagreement(report: LoadReport, *, allowed: tuple[str, ...]) -> None:
    """Raise ValueError listing all names that disagree and do not start with an `allowed` prefix."""
    names = (*report.missing, *report.unexpected, *report.mismatched)
    idle = [prefix for prefix in allowed if not any(name.startswith(prefix) for name in (*names, *report.loaded))]
    if idle:
        raise ValueError(f"nothing to re-initialise starts with {idle}; check the spelling")
    problems = [
        *(f"missing in the weights: {name}" for name in report.missing if not name.startswith(allowed)),
        *(f"not in the model: {name}" for name in report.unexpected if not name.startswith(allowed)),
        *(
            f"shape of {name}: {theirs} in the weights, {ours} in the model"
            for name, (theirs, ours) in report.mismatched.items()
            if not name.startswith(allowed)
        ),
    ]
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        lines = "\n  ".join(problems[:_SHOWN]) + more
        raise ValueError(
            f"{len(problems)} of {len(names) + len(report.loaded)} names do not fit this model:\n  {lines}\n"
            "Load into the architecture they were made for (backbone, its width and reduction, model), or name the "
            "prefixes to re-initialise."
        )


def from_torchvision(state: Mapping[str, Tensor], *, prefix: str = "features.", to: str = "") -> dict[str, Tensor]:
    """Rename a torchvision MobileNetV3 trunk, any variant, or V2's; names without `prefix` are not the trunk's.

    The prefix is `features.` in a classifier and `backbone.` in torchvision's LR-ASPP; `to` is put before our names.
    """
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if "layers.0.weight" in state:
        raise ValueError("torchvision's MnasNet is B1, which no trunk here is; of A1 and Small, timm has weights")
    if not trunk:
        raise ValueError(f"no name starts with {prefix!r}; the first is {next(iter(state), None)!r}")
    parts = _torchvision_parts(trunk)
    renamed = {}
    for name, tensor in trunk.items():
        head, _, leaf = name.rpartition(".")
        if head not in parts:
            raise ValueError(f"{prefix}{name} is no tensor of a torchvision MobileNetV2 or V3 trunk")
        renamed[f"{to}{parts[head]}.{leaf}"] = tensor
    return renamed


def _torchvision_parts(trunk: Mapping[str, Tensor]) -> dict[str, str]:
    """Map torchvision's layers to ours. A block's layers are numbered without gaps, so what is left out shifts them."""
    last = max((int(name.split(".")[0]) for name in trunk if name.split(".")[0].isdigit()), default=0)
    parts = {}
    for theirs, ours in (("0", "stem"), (str(last), "last")):
        parts |= {f"{theirs}.0": f"{ours}.conv", f"{theirs}.1": f"{ours}.norm"}
    for block in range(1, last):
        if f"{block}.conv.0.0.weight" in trunk:
            parts |= _torchvision_v2_block(trunk, block)
            continue
        layers = sorted({name.split(".")[2] for name in trunk if name.startswith(f"{block}.block.")}, key=int)
        squeezes = [layer for layer in layers if f"{block}.block.{layer}.fc1.weight" in trunk]
        convs = [layer for layer in layers if layer not in squeezes]
        for layer, ours in zip(reversed(convs), ("project", "depthwise", "expand"), strict=False):
            parts[f"{block}.block.{layer}.0"] = f"blocks.{block - 1}.{ours}.conv"
            parts[f"{block}.block.{layer}.1"] = f"blocks.{block - 1}.{ours}.norm"
        for layer in squeezes:
            parts[f"{block}.block.{layer}.fc1"] = f"blocks.{block - 1}.se.squeeze"
            parts[f"{block}.block.{layer}.fc2"] = f"blocks.{block - 1}.se.excite"
    return parts


def _torchvision_v2_block(trunk: Mapping[str, Tensor], block: int) -> dict[str, str]:
    """As `_torchvision_parts`, of a block of MobileNetV2; its projection is not wrapped."""
    expands = f"{block}.conv.1.0.weight" in trunk
    parts = {}
    for number, ours in enumerate(("expand", "depthwise") if expands else ("depthwise",)):
        parts[f"{block}.conv.{number}.0"] = f"blocks.{block - 1}.{ours}.conv"
        parts[f"{block}.conv.{number}.1"] = f"blocks.{block - 1}.{ours}.norm"
    project = 2 if expands else 1
    parts[f"{block}.conv.{project}"] = f"blocks.{block - 1}.project.conv"
    parts[f"{block}.conv.{project + 1}"] = f"blocks.{block - 1}.project.norm"
    return parts


def classifier_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a torchvision `mobilenet_v2` or `mobilenet_v3_*` to that of our `Classifier`."""
    heads = {"classifier.0.": "hidden.", "classifier.1.": "logits.", "classifier.3.": "logits."}
    renamed = from_torchvision(state, to="backbone.")
    for name, tensor in state.items():
        if not name.startswith("features."):
            theirs = next((theirs for theirs in heads if name.startswith(theirs)), None)
            if theirs is None:
                raise ValueError(f"{name} is no tensor of a torchvision MobileNetV2 or V3 classifier")
            renamed[heads[theirs] + name.removeprefix(theirs)] = tensor
    return renamed


def trunk_settings(trunk: BlockTrunk, accepted: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to set, as `key=value`, before the trunk computes what the weights were trained in; they fit others too.

    Args:
        accepted: pairs of `bn_eps` and `padding` that are right; the first is advised.
    """
    padding = "same" if isinstance(trunk.stem.conv, SamePaddedConv2d) else "symmetric"
    found = {"bn_eps": trunk.stem.norm.eps, "padding": padding}
    keys = []
    if found not in accepted:
        keys = [f"backbone.{key}={value}" for key, value in accepted[0].items() if value != found[key]]
    gates = [layer.gate for layer in trunk.modules() if isinstance(layer, SqueezeExcite)]
    if any(isinstance(gate, TFHardSigmoid) for gate in gates):
        keys.append("backbone.gate=exact")
    return keys


_SLIM_LEAVES = {
    "weights": "weight",
    "depthwise_weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def rename_tf_layers(variables: Mapping[str, np.ndarray], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the variables of the TF-slim scopes that are keys of `layers` to our modules, and turn the kernels.

    A scope with batch norm is a `ConvNormAct` of ours, one without a convolution. Kernels: HWIO -> OIHW, depthwise HWC1
    -> C1HW. Other scopes, optimizer slots and averages (`.../weights/Momentum`) are left out.
    """
    renamed, empty = {}, dict(layers)
    for name, array in variables.items():
        scope, _, leaf = name.rpartition("/")
        layer = scope.removesuffix("/BatchNorm")
        if layer not in layers:
            continue
        if leaf not in _SLIM_LEAVES:
            raise ValueError(f"{name}: expected one of {', '.join(_SLIM_LEAVES)} after the last slash")
        empty.pop(layer, None)
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if leaf == "depthwise_weights" else (3, 2, 0, 1))
        normed = f"{layer}/BatchNorm/moving_mean" in variables
        part = ".norm" if scope != layer else ".conv" if normed else ""
        renamed[f"{layers[layer]}{part}.{_SLIM_LEAVES[leaf]}"] = torch.from_numpy(np.array(array, order="C"))
    if empty:
        raise ValueError(
            f"no variables in the scopes {list(empty)}; the first variable is {next(iter(variables), None)!r}"
        )
    return renamed


_SLIM_BLOCK = re.compile(
    r"expanded_conv(?:_(\d+))?/(expand|depthwise|project|squeeze_excite/Conv|squeeze_excite/Conv_1)"
)
_SLIM_PARTS = {"squeeze_excite/Conv": "se.squeeze", "squeeze_excite/Conv_1": "se.excite"}


def from_tf_slim(
    variables: Mapping[str, np.ndarray], *, scope: str = "MobilenetV3/", to: str = ""
) -> dict[str, Tensor]:
    """Rename a TF-slim MobileNetV3 trunk, any variant, or V2's; `to` is put before our names.

    The scope is `FeatureExtractor/MobilenetV3/` in a detector. Whatever else stands in it (extra layers, classifier) is
    no part of the trunk and left out.
    """
    layers = {f"{scope}Conv": f"{to}stem", f"{scope}Conv_1": f"{to}last"}
    for name in variables:
        layer = name.rpartition("/")[0].removesuffix("/BatchNorm")
        block = _SLIM_BLOCK.fullmatch(layer.removeprefix(scope)) if layer.startswith(scope) else None
        if block is not None:
            number, part = block.groups(default="0")
            layers[layer] = f"{to}blocks.{number}.{_SLIM_PARTS.get(part, part)}"
    return rename_tf_layers(variables, layers)


def classifier_from_tf_slim(variables: Mapping[str, np.ndarray], *, scope: str = "MobilenetV3/") -> dict[str, Tensor]:
    """Rename TF-slim's ImageNet MobileNetV3, or V2 (`MobilenetV2/`), to our `Classifier`; class 0 is background."""
    layers = {f"{scope}Logits/Conv2d_1c_1x1": "logits"}
    if f"{scope}Conv_2/weights" in variables:  # V2 has no hidden layer
        layers[f"{scope}Conv_2"] = "hidden"
    head = rename_tf_layers(variables, layers)
    # They are 1x1 convolutions there, linear layers here.
    head = {name: tensor.flatten(1) if tensor.ndim == 4 else tensor for name, tensor in head.items()}
    return from_tf_slim(variables, scope=scope, to="backbone.") | head
