"""Flat keywords, as configurations, checkpoints and callers have them, mean the fields of `conventions`."""

import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
from pocketvision.backbones.conventions import PaddedConventions
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.detection.network import SSDLite
from pocketvision.segmentation.c3net import C3Net
from pocketvision.segmentation.espnet import ESPNet
from pocketvision.segmentation.espnetv2 import ESPNetv2
from pocketvision.segmentation.network import LRASPP, RASPP
from torch import nn

TRUNK = {"padding": "same", "bn_eps": 0.1, "bn_momentum": 0.5, "init": "torchvision"}
PICTURE = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
HEAD = {"align_corners": False, "pad_input": False, **PICTURE, "bn_eps": 0.1, "bn_momentum": 0.5, "init": None}
RELEASED = {**PICTURE, "bn_momentum": 0.5}
# A network, what makes every convention matter to it, and its flat keywords with values that are not the defaults.
FLAT: list[tuple[type[nn.Module], dict[str, Any], dict[str, Any]]] = [
    (MobileNetV1, {"width": 0.25}, TRUNK),
    (MobileNetV2, {"width": 0.25}, TRUNK),
    (MnasNet, {"variant": "small", "width": 0.25}, TRUNK),
    (
        MobileNetV3,
        {"variant": "small", "width": 0.35, "output_stride": 16},
        {**TRUNK, "gate": "tf", "atrous": "torchvision", "scaling": "torchvision"},
    ),
    (SSDLite, {"num_classes": 2}, {**TRUNK, **PICTURE}),
    (LRASPP, {"num_classes": 2}, {**HEAD, "gate": "qsigmoid"}),
    (RASPP, {"num_classes": 2}, HEAD),
    (ESPNet, {"num_classes": 6, "p": 1, "q": 1}, {**RELEASED, "channel_order": "rgb"}),
    (C3Net, {"num_classes": 6, "p": 1, "q": 1}, {**RELEASED, "channel_order": "rgb"}),
    (ESPNetv2, {"num_classes": 2, "width": 0.5}, {**RELEASED, "channel_order": "bgr"}),
]
NAMES = [network.__name__ for network, _, _ in FLAT]


def built(network: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    """A network with the options, the same weights for the same options."""
    torch.manual_seed(0)
    if "backbone" in inspect.signature(network).parameters:
        options = {"backbone": MobileNetV2(width=0.25, init="torchvision_detection"), **options}
    return network(**options)


def described(model: nn.Module) -> tuple[Any, ...]:
    """Its layers, its plain attributes, and its picture's constants."""
    plain = {key: value for key, value in vars(model).items() if isinstance(value, bool | int | float | str | tuple)}
    return str(model), plain, getattr(getattr(model, "normalize", None), "constants", None)


def same(one: nn.Module, other: nn.Module) -> bool:
    return described(one) == described(other) and all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(("network", "needed", "flat"), FLAT, ids=NAMES)
def test_a_flat_keyword_is_a_convention(network: type[nn.Module], needed: dict[str, Any], flat: dict[str, Any]) -> None:
    default = inspect.signature(network).parameters["conventions"].default
    plain = built(network, needed)
    for key, value in flat.items():
        found = built(network, {**needed, key: value})
        assert same(found, built(network, {**needed, "conventions": replace(default, **{key: value})})), key
        assert not same(found, plain), f"{key} has no effect"


@pytest.mark.parametrize(("network", "needed", "flat"), FLAT, ids=NAMES)
def test_what_is_no_convention_is_named(network: type[nn.Module], needed: dict[str, Any], flat: dict[str, Any]) -> None:
    for key in {"nonsense", "gate", "padding", "align_corners", "channel_order"} - flat.keys():
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{key}'"):
            built(network, {**needed, **flat, key: "x"})


def test_a_flat_keyword_goes_before_the_conventions() -> None:
    backbone = MobileNetV1(width=0.25, conventions=PaddedConventions(bn_eps=0.1, bn_momentum=0.5), bn_eps=0.2)
    assert (backbone.stem.norm.eps, backbone.stem.norm.momentum) == (0.2, 0.5)
