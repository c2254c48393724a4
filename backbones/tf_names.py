"""Renames TensorFlow's variables to our names: MobileNetV1 to V3 of TF-slim, MnasNet of tensorflow/tpu.

Pure functions from dictionary to dictionary, in TF's layouts on one side and torch's on the other; shapes are checked
where the weights are loaded. A layer is a scope (`MobilenetV2/Conv_1`), the variables in it are its leaves.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

_SHOWN = 12  # names in a message
LEAVES = {
    "weights": "weight",
    "depthwise_weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
KERAS_LEAVES = {"kernel": "weights", "depthwise_kernel": "depthwise_weights", "bias": "biases"}
EMA = "ExponentialMovingAverage"
_COUNTERS = ("global_step", "beta1_power", "beta2_power", "save_counter")
_TRUNK = re.compile(r"((?:[^/]+/)*?(?:MobilenetV[123]|MnasNet)/)")
_BLOCK = re.compile(r"expanded_conv(?:_(\d+))?/(expand|depthwise|project|squeeze_excite/Conv|squeeze_excite/Conv_1)")
_V1_BLOCK = re.compile(r"Conv2d_(\d+)_(depthwise|pointwise)")
_PARTS = {"squeeze_excite/Conv": "se.squeeze", "squeeze_excite/Conv_1": "se.excite", "pointwise": "project"}
# Layers after a trunk in the official graphs: of classifiers, detectors (SSD) and segmenters (DeepLab)
_HEADS = re.compile(
    r"(?:.*/)?(?:Logits/.*|Conv_2|\w+_[12]_Conv2d_\d+_\dx\d\w*)|BoxPredictor_\d+/.*"
    r"|(?:aspp\d+(?:_depthwise|_pointwise)?|image_pooling|concat_projection|(?:decoder|logits)/.*)"
)


def as_slim(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables a network computes with, under TF-slim's names.

    Moving averages replace their weights; optimizer slots and counters are dropped; names lose their `:0`.
    """
    found = {name.removesuffix(":0"): array for name, array in variables.items()}
    averages = {name.removesuffix(f"/{EMA}"): array for name, array in found.items() if name.endswith(f"/{EMA}")}
    found = {name: array for name, array in found.items() if not name.endswith(f"/{EMA}")} | averages

    def is_slot(name: str) -> bool:  # `Conv/weights/Momentum`; no other variable's name starts with a variable's
        parts = name.split("/")
        return any("/".join(parts[:end]) in found for end in range(1, len(parts)))

    return mnasnet_as_slim(
        {name: array for name, array in found.items() if name.split("/")[-1] not in _COUNTERS and not is_slot(name)}
    )


def layer_of(name: str) -> str:
    """The layer a variable belongs to; a batch norm belongs to the convolution it follows."""
    return name.rpartition("/")[0].removesuffix("/BatchNorm")


def rename_tf_layers(variables: Mapping[str, np.ndarray], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the variables of the layers that are keys of `layers` to our modules, and transpose the kernels.

    A layer with batch norm is our `ConvNormAct`, one without is a convolution. Kernels: HWIO -> OIHW, depthwise HWC1
    -> C1HW, dense IO -> OI. Other layers are dropped.
    """
    renamed, empty = {}, dict(layers)
    for name, array in variables.items():
        layer, leaf = layer_of(name), name.rpartition("/")[2]
        if layer not in layers:
            continue
        if leaf not in LEAVES:
            raise ValueError(f"{name}: expected one of {', '.join(LEAVES)} after the last slash")
        empty.pop(layer, None)
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if leaf == "depthwise_weights" else (3, 2, 0, 1))
        elif array.ndim == 2:
            array = array.T
        normed = f"{layer}/BatchNorm/moving_mean" in variables
        part = ".norm" if f"{layer}/{leaf}" != name else ".conv" if normed else ""
        try:
            with np.errstate(over="raise"):
                array = np.array(array, dtype=np.float32, order="C")
        except FloatingPointError:
            raise ValueError(f"{name} has numbers beyond float32's") from None
        renamed[f"{layers[layer]}{part}.{LEAVES[leaf]}"] = torch.from_numpy(array)
    if empty:
        raise ValueError(
            f"no variables in the scopes {list(empty)}; the first variable is {next(iter(variables), None)!r}"
        )
    return renamed


def refuse_unknown(variables: Mapping[str, np.ndarray], known: Collection[str], *, what: str) -> None:
    """Raise ValueError listing the variables whose layer is not in `known`."""
    unknown = [name for name in variables if layer_of(name) not in known]
    if unknown:
        more = f", ... and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise ValueError(f"{len(unknown)} variables do not belong to {what}: {', '.join(unknown[:_SHOWN])}{more}")


# ---- trunks ----------------------------------------------------------------------------------------------


def trunk_layers(variables: Mapping[str, np.ndarray]) -> tuple[str, dict[str, str]]:
    """The trunk's scope with its slash (in a detector `FeatureExtractor/MobilenetV3/`), and our names of its layers.

    Raises:
        ValueError: there is no MobileNetV1, V2, V3 or MnasNet, or more than one, or the batch norms are folded.
    """
    scopes = sorted({match[1] for name in variables if (match := _TRUNK.match(name))})
    if len(scopes) != 1:
        raise ValueError(
            f"expected the variables of one trunk, in a scope MobilenetV1/, MobilenetV2/, MobilenetV3/ or mnas_*/; "
            f"found {scopes or 'none'}; the first variable is {next(iter(variables), None)!r}"
        )
    scope, layers = scopes[0], {}
    if not any(name.endswith("/BatchNorm/moving_mean") for name in variables):
        raise ValueError(
            f"{scope} has no batch norms: graphs optimized for inference have them folded into the convolutions; "
            "use the original frozen graph, or the checkpoint"
        )
    for layer in dict.fromkeys(map(layer_of, variables)):
        if not layer.startswith(scope):
            continue
        inside = layer.removeprefix(scope)
        if inside in ("Conv", "Conv2d_0"):
            layers[layer] = "stem"
        elif inside == "Conv_1":
            layers[layer] = "last"
        elif block := _BLOCK.fullmatch(inside):
            number, part = block.groups(default="0")
            layers[layer] = f"blocks.{number}.{_PARTS.get(part, part)}"
        elif block := _V1_BLOCK.fullmatch(inside):
            layers[layer] = f"blocks.{int(block[1]) - 1}.{_PARTS.get(block[2], block[2])}"
    return scope, layers


def from_tf_slim(variables: Mapping[str, np.ndarray], *, to: str = "") -> dict[str, Tensor]:
    """Rename a trunk of any variant and width; `to` is prefixed to our names. Heads of the official graphs are dropped.

    Raises:
        ValueError: there is no trunk, or variables belong neither to it nor to such a head; they are listed.
    """
    variables = as_slim(variables)
    _, layers = trunk_layers(variables)
    heads = [layer for layer in map(layer_of, variables) if _HEADS.fullmatch(layer)]
    refuse_unknown(variables, {*layers, *heads}, what="a MobileNet or MnasNet, nor of a head on one")
    return rename_tf_layers(variables, {layer: f"{to}{ours}" for layer, ours in layers.items()})


def is_classifier(variables: Mapping[str, np.ndarray]) -> bool:
    """Whether there are class logits directly after a trunk."""
    return any(re.search(r"/Logits/Conv2d_1c_1x1/|mnas_head/dense", name) for name in variables)


def classifier_from_tf_slim(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename an ImageNet classifier to our `Classifier`; TF-slim's class 0 is background (1001 classes).

    Raises:
        ValueError: variables are missing or not of a classifier; they are listed.
    """
    variables = as_slim(variables)
    scope, layers = trunk_layers(variables)
    head = {f"{scope}Logits/Conv2d_1c_1x1": "logits"}
    if f"{scope}Conv_2/weights" in variables:  # only MobileNetV3 has a hidden layer
        head[f"{scope}Conv_2"] = "hidden"
    refuse_unknown(variables, layers.keys() | head.keys(), what="a MobileNet or MnasNet classifier")
    renamed = rename_tf_layers(variables, {layer: f"backbone.{ours}" for layer, ours in layers.items()})
    # 1x1 convolutions there, linear layers here.
    return renamed | {
        name: tensor.flatten(1) if tensor.ndim == 4 else tensor
        for name, tensor in rename_tf_layers(variables, head).items()
    }


# ---- MnasNet: layers are numbered by Keras, not named ----------------------------------------------------

_MNAS = re.compile(
    r"(?:.*/)?mnas_(stem|head|blocks_(\d+))/(se/)?"
    r"(conv2d|depthwise_conv2d|(?:tpu_)?batch_normalization|dense)(?:_(\d+))?/(\w+)"
)


def mnasnet_as_slim(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """MnasNet's variables under TF-slim's names, in the scope `MnasNet/`; others are unchanged.

    The convolutions of a block are identified by their order: Keras numbers them within a block or throughout.
    """
    found = {name: match for name in variables if (match := _MNAS.fullmatch(name))}
    numbers: dict[tuple[str, str], set[int]] = {}
    for match in found.values():
        numbers.setdefault((match[1], f"{match[3] or ''}{match[4]}"), set()).add(int(match[5] or 0))
    renamed = {}
    for name, array in variables.items():
        match = found.get(name)
        if match is None:
            renamed[name] = array
            continue
        unit, kind, number = match[1], f"{match[3] or ''}{match[4]}", int(match[5] or 0)
        layers = _mnas_layers(unit, kind)
        same = sorted(numbers[unit, kind])
        if len(same) > len(layers):
            raise ValueError(f"{name}: {unit} has {len(same)} layers {kind}, but MnasNet has at most {len(layers)}")
        layer = layers[
            len(layers) - len(same) + same.index(number)
        ]  # the layer that may be missing, the expansion, is the first
        block = f"expanded_conv{f'_{match[2]}' if match[2] != '0' else ''}/" if match[2] else ""
        norm = "BatchNorm/" if "normalization" in kind else ""
        renamed[f"MnasNet/{block}{layer}/{norm}{KERAS_LEAVES.get(match[6], match[6])}"] = array
    return renamed


def _mnas_layers(unit: str, kind: str) -> tuple[str, ...]:
    """The layers of a kind, in order of creation."""
    if unit in ("stem", "head"):
        return ("Logits/Conv2d_1c_1x1",) if kind == "dense" else ("Conv" if unit == "stem" else "Conv_1",)
    return {
        "conv2d": ("expand", "project"),
        "depthwise_conv2d": ("depthwise",),
        "se/conv2d": ("squeeze_excite/Conv", "squeeze_excite/Conv_1"),
    }.get(kind, ("expand", "depthwise", "project"))
