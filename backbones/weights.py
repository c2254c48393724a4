"""Renames other libraries' weights to our names, and loads them without silently skipping a tensor.

Renaming is a pure function from dictionary to dictionary; shapes are checked where the weights are loaded.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..words import counted
from .blocks import BlockTrunk
from .layers import Normalize, SamePaddedConv2d, SqueezeExcite, gate_activation
from .mobilenet_v3 import MobileNetV3

_SHOWN = 12  # names in a message

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class LoadReport:
    """The outcome for every name: names are the model's, `unexpected` ones the source's."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # in the model, not in the source
    unexpected: tuple[str, ...]  # in the source, not in the model
    mismatched: dict[str, Shapes]  # name -> shapes in the source and in the model
    notes: tuple[str, ...] = ()  # what was changed, such as dropped channels

    @property
    def reinitialized(self) -> tuple[str, ...]:
        """The model's names that keep their previous values."""
        return (*self.missing, *self.mismatched)

    def __str__(self) -> str:
        """A summary in one or two lines, by layer."""
        text = f"loaded {counted(len(self.loaded), 'tensor')}"
        fresh, spare = self.reinitialized, self.unexpected
        if fresh:
            text += f"; {counted(len(fresh), 'stays', 'stay')} randomly initialized ({_layers(fresh)})"
        if spare:
            text += f"; {counted(len(spare), 'is', 'are')} not part of this network ({_layers(spare)})"
        return "; ".join((text, *self.notes))


def _layers(names: Iterable[str]) -> str:
    layers = sorted({name.rpartition(".")[0] for name in names})
    return ", ".join(layers[:6]) + (", ..." if len(layers) > 6 else "")


def load_strict(model: nn.Module, state: Mapping[str, Tensor], *, reinitialize: Sequence[str] = ()) -> LoadReport:
    """Copy `state` into `model` if names and shapes agree, else raise ValueError and change nothing.

    Names that start with one of `reinitialize` need not agree: if they don't, the model keeps its values, and the
    report lists them.
    """
    if isinstance(reinitialize, str):
        raise ValueError(f"reinitialize must be a list of prefixes, got the string {reinitialize!r}")
    own = model.state_dict()
    shared = own.keys() & state.keys()
    mismatched = {
        name: (tuple(state[name].shape), tuple(own[name].shape))
        for name in own
        if name in shared and state[name].shape != own[name].shape
    }
    report = LoadReport(
        loaded=tuple(name for name in own if name in shared and name not in mismatched),
        # Files of old versions and other frameworks have no batch counter, and nothing here uses it.
        missing=tuple(name for name in own if name not in shared and not name.endswith(".num_batches_tracked")),
        unexpected=tuple(name for name in state if name not in shared),
        mismatched=mismatched,
    )
    _refuse_disagreement(report, allowed=tuple(reinitialize))
    _refuse_values({name: (state[name], own[name]) for name in report.loaded})
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report


def _refuse_values(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Raise ValueError if theirs are integers where ours are floating-point, or not finite."""
    for name, (theirs, ours) in pairs.items():
        if theirs.is_floating_point() != ours.is_floating_point():
            raise ValueError(f"{name} is {theirs.dtype} in the weights, but {ours.dtype} in the model: quantized?")
        if not theirs.to(ours.dtype).isfinite().all():
            raise ValueError(f"{name} has non-finite values: the file is corrupt, or its training diverged")


def _refuse_disagreement(report: LoadReport, *, allowed: tuple[str, ...]) -> None:
    """Raise ValueError listing all names that disagree and do not start with an `allowed` prefix."""
    names = (*report.missing, *report.unexpected, *report.mismatched)
    idle = [prefix for prefix in allowed if not any(name.startswith(prefix) for name in (*names, *report.loaded))]
    if idle:
        raise ValueError(f"no tensor to re-initialize starts with {idle}; check the spelling")
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
            f"{len(problems)} of {len(names) + len(report.loaded)} names do not match this model:\n  {lines}\n"
            "Use the architecture that the weights were made for (backbone, its width and reduction, model), "
            "or list the prefixes to re-initialize."
        )


def from_torchvision(state: Mapping[str, Tensor], *, prefix: str = "features.", to: str = "") -> dict[str, Tensor]:
    """Rename a torchvision MobileNetV3 trunk, any variant, or V2's; names without `prefix` do not belong to the trunk.

    The prefix is `features.` in a classifier and `backbone.` in torchvision's LR-ASPP; `to` is prefixed to our names.
    Of the many networks derived from V2's, those with a block's layers in one flat list are renamed, too.

    Raises:
        ValueError: a name belongs neither to the trunk nor, in a V2, to a classifier, or a block does not have its
        convolutions and batch norms in turn.
    """
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if "layers.0.weight" in state:
        raise ValueError("torchvision's MnasNet is B1, which is not supported; timm has weights for A1 and Small")
    if not trunk:
        raise ValueError(f"no name starts with {prefix!r}; the first tensor is {next(iter(state), None)!r}")
    if any(name.startswith("1.conv.") for name in trunk):
        for name in state:
            if not name.startswith((prefix, "classifier.")):
                raise ValueError(f"{name} is not a tensor of a MobileNetV2 with `features` and `classifier`")
    return rename_layers(trunk, _torchvision_layers(trunk, prefix), what="a torchvision trunk", to=to)


def rename_layers(
    state: Mapping[str, Tensor], layers: Mapping[str, str], *, what: str, to: str = ""
) -> dict[str, Tensor]:
    """Rename the layers of a state dict by a table; `to` is prefixed to our names.

    Raises:
        ValueError: a tensor is of none of them.
    """
    renamed = {}
    for name, tensor in state.items():
        layer, _, leaf = name.rpartition(".")
        if layer not in layers:
            raise ValueError(f"{name} is not a tensor of {what}; the first tensor is {next(iter(state))}")
        renamed[f"{to}{layers[layer]}.{leaf}"] = tensor
    return renamed


_LAYER = re.compile(r"(\d+)\.(?:(?:block|conv)\.)?(\d+(?:\.\d+)?)(?:\.(fc[12]))?")  # unit, place in it, part of a gate
_GATE = {"fc1": "se.squeeze", "fc2": "se.excite"}
_BLOCK = (".expand", ".depthwise", ".project")


def _torchvision_layers(trunk: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """torchvision's layers -> ours: in a block, two or three convolutions, each before its batch norm, and a gate."""
    renamed: dict[str, str] = {}
    units: dict[int, dict[tuple[int, ...], str]] = {}  # number -> place -> layer
    for name in trunk:
        layer = name.rpartition(".")[0]
        match = _LAYER.fullmatch(layer)
        if match is None:
            raise ValueError(f"{prefix}{name} is not a tensor of a torchvision MobileNetV2 or V3 trunk")
        number, place = int(match[1]), tuple(map(int, match[2].split(".")))
        if match[3]:
            renamed[layer] = f"blocks.{number - 1}.{_GATE[match[3]]}"
        else:
            units.setdefault(number, {})[place] = layer
    for number, places in units.items():
        found = [layer for _, layer in sorted(places.items())]
        convs = [layer for layer in found if f"{layer}.weight" in trunk and trunk[f"{layer}.weight"].ndim == 4]
        kinds = {"conv": convs, "norm": [layer for layer in found if layer not in convs]}
        path = {0: "stem", max(units): "last"}.get(number, f"blocks.{number - 1}")
        parts = ("",) if number in (0, max(units)) else _BLOCK[len(_BLOCK) - len(convs) :]
        if any(len(layers) != len(parts) for layers in kinds.values()):
            raise ValueError(f"{prefix}{found[0]}: expected {len(parts)} convolutions with batch norm, found {found}")
        for kind, layers in kinds.items():
            renamed |= {layer: f"{path}{part}.{kind}" for layer, part in zip(layers, parts, strict=True)}
    return renamed


def classifier_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a torchvision `mobilenet_v2` or `mobilenet_v3_*` to that of our `Classifier`."""
    layers = {"classifier.0": "hidden", "classifier.1": "logits", "classifier.3": "logits"}
    trunk = from_torchvision(state, to="backbone.")
    head = {name: tensor for name, tensor in state.items() if not name.startswith("features.")}
    return trunk | rename_layers(head, layers, what="a torchvision MobileNetV2 or V3 classifier")


def picture_settings(normalize: Normalize, *, mean: Sequence[float], std: Sequence[float]) -> list[str]:
    """What to set, as `key=value`, so that images are normalized with this mean and standard deviation."""
    return [
        f"model.network.{key}=[{','.join(map(str, values))}]"
        for key, values in {"mean": mean, "std": std}.items()
        if normalize.constants[key] != tuple(values)
    ]


def trunk_settings(trunk: BlockTrunk, accepted: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to set, as `key=value`, so that the trunk matches the weights' settings; they load without it, too.

    Args:
        accepted: valid pairs of `bn_eps` and `padding`; the first is recommended.
    """
    padding = "same" if isinstance(trunk.stem.conv, SamePaddedConv2d) else "symmetric"
    found = {"bn_eps": trunk.stem.norm.eps, "padding": padding}
    keys = []
    if found not in accepted:
        keys = [f"backbone.{key}={value}" for key, value in accepted[0].items() if value != found[key]]
    return keys + v3_settings(trunk, gate="exact")


def v3_settings(trunk: nn.Module, *, gate: str) -> list[str]:
    """What to set in a MobileNetV3, as `key=value`, so that it has this gate and the paper's activations."""
    if not isinstance(trunk, MobileNetV3):
        return []
    kind = type(gate_activation(gate))
    gates = [layer.gate for layer in trunk.modules() if isinstance(layer, SqueezeExcite)]
    keys = [] if all(isinstance(found, kind) for found in gates) else [f"backbone.gate={gate}"]
    return keys + ([] if trunk.nonlinearity == "paper" else ["backbone.nonlinearity=paper"])


def override(key: str, value: Any) -> str:
    """`key=value` as a command line takes it: true, null, [1.0,2.0], text in quotes where it has to be."""
    if isinstance(value, str):
        return f"{key}={value}" if re.fullmatch(r"[\w.-]+", value) else f"{key}={json.dumps(value)}"
    plain = list(value) if isinstance(value, tuple) else value
    return f"{key}={json.dumps(plain).replace(' ', '')}"
