"""Renames other libraries' weights to our names, and loads them without silently skipping a tensor.

Renaming is a pure function from dictionary to dictionary; shapes are checked where the weights are loaded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .blocks import BlockTrunk
from .layers import Normalize, SamePaddedConv2d, SqueezeExcite, TFHardSigmoid
from .torch_mobilenet_v2 import from_torch_mobilenet_v2, is_torch_mobilenet_v2

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
        text = f"loaded {len(self.loaded)} tensors"
        if self.reinitialized:
            text += f"; {len(self.reinitialized)} stay randomly initialized ({_layers(self.reinitialized)})"
        if self.unexpected:
            text += f"; {len(self.unexpected)} are not part of this network ({_layers(self.unexpected)})"
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
    """
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if is_torch_mobilenet_v2(state):
        return from_torch_mobilenet_v2(state, to=to)
    if "layers.0.weight" in state:
        raise ValueError("torchvision's MnasNet is B1, which is not supported; timm has weights for A1 and Small")
    if not trunk:
        raise ValueError(f"no name starts with {prefix!r}; the first tensor is {next(iter(state), None)!r}")
    parts = _torchvision_parts(trunk)
    renamed = {}
    for name, tensor in trunk.items():
        head, _, leaf = name.rpartition(".")
        if head not in parts:
            raise ValueError(f"{prefix}{name} is not a tensor of a torchvision MobileNetV2 or V3 trunk")
        renamed[f"{to}{parts[head]}.{leaf}"] = tensor
    return renamed


def _torchvision_parts(trunk: Mapping[str, Tensor]) -> dict[str, str]:
    """Map torchvision's layers to ours. A missing layer of a block shifts the numbers of the others."""
    last = max((int(name.split(".")[0]) for name in trunk if name.split(".")[0].isdigit()), default=0)
    parts = {}
    for theirs, ours in (("0", "stem"), (str(last), "last")):
        parts |= {f"{theirs}.0": f"{ours}.conv", f"{theirs}.1": f"{ours}.norm"}
    for block in range(1, last):
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


def classifier_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a torchvision `mobilenet_v2` or `mobilenet_v3_*` to that of our `Classifier`."""
    heads = {"classifier.0.": "hidden.", "classifier.1.": "logits.", "classifier.3.": "logits."}
    renamed = from_torchvision(state, to="backbone.")
    for name, tensor in state.items():
        if not name.startswith("features."):
            theirs = next((theirs for theirs in heads if name.startswith(theirs)), None)
            if theirs is None:
                raise ValueError(f"{name} is not a tensor of a torchvision MobileNetV2 or V3 classifier")
            renamed[heads[theirs] + name.removeprefix(theirs)] = tensor
    return renamed


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
    gates = [layer.gate for layer in trunk.modules() if isinstance(layer, SqueezeExcite)]
    if any(isinstance(gate, TFHardSigmoid) for gate in gates):
        keys.append("backbone.gate=exact")
    return keys
