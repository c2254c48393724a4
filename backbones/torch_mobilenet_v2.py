"""Renames MobileNetV2 weights of torchvision, and the many derived from them, to our names."""

from collections.abc import Mapping

from torch import Tensor


def is_torch_mobilenet_v2(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of such a network: `features.1.conv.*`."""
    return any(name.startswith("features.1.conv.") for name in state)


def from_torch_mobilenet_v2(state: Mapping[str, Tensor], *, to: str = "") -> dict[str, Tensor]:
    """Rename the trunk of torchvision's `mobilenet_v2`, or one with a block's layers in one flat list.

    Trained with ImageNet's mean and standard deviation, symmetric padding and `bn_eps=1e-5`. A classifier is dropped.

    Raises:
        ValueError: a name belongs neither to the trunk nor to a classifier, or a block does not have two or three
        convolutions.
    """
    units: dict[str, list[str]] = {}  # stem, blocks.N or last -> its layers, in the order of the computation
    last = str(max((int(name.split(".")[1]) for name in state if name.startswith("features.")), default=0))
    for name in state:
        if name.startswith("classifier."):
            continue
        if not name.startswith("features."):
            raise ValueError(f"{name} is not a tensor of a MobileNetV2 with `features` and `classifier`")
        number = name.split(".")[1]
        unit = {"0": "stem", last: "last"}.get(number) or f"blocks.{int(number) - 1}"
        layer = name.rpartition(".")[0]
        if layer not in units.setdefault(unit, []):
            units[unit].append(layer)
    layers = {theirs: ours for unit, found in units.items() for theirs, ours in _layers(unit, found, state).items()}
    trunk = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    return {f"{to}{layers[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": trunk[name] for name in trunk}


def _layers(unit: str, found: list[str], state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our names of a unit's layers, which alternate between convolutions and batch norms."""
    convs = [layer for layer in found if state[f"{layer}.weight"].ndim == 4]
    norms = [layer for layer in found if layer not in convs]
    parts = ("expand", "depthwise", "project") if unit.startswith("blocks.") else ("",)
    parts = parts[len(parts) - len(convs) :]
    if not len(convs) == len(norms) == len(parts):
        raise ValueError(f"{found[0]}: expected {len(parts)} convolutions with batch norm, found {found}")
    paths = [f"{unit}.{part}".rstrip(".") for part in parts]
    return {
        **{layer: f"{path}.conv" for layer, path in zip(convs, paths, strict=True)},
        **{layer: f"{path}.norm" for layer, path in zip(norms, paths, strict=True)},
    }
