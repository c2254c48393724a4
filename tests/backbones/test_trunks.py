"""MobileNetV1, MobileNetV2 and MnasNet keep the promises of every trunk; MobileNetV2 is torchvision's."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from pocketvision.backbones.blocks import BlockTrunk, InvertedResidual
from pocketvision.backbones.features import FeatureSpec
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.weights import from_torchvision, load_strict
from torch import nn
from torchvision.models import mobilenet_v2

FAST = "torchvision_detection"  # of the initialisations
TRUNKS = {
    "v1": MobileNetV1,
    "v2": MobileNetV2,
    "v2 without last": partial(MobileNetV2, last=None),
    "a1": MnasNet,
    "small": partial(MnasNet, "small"),
}


def blocks(model: BlockTrunk) -> list[InvertedResidual]:
    return [block for block in model.blocks if isinstance(block, InvertedResidual)]


@pytest.mark.parametrize("reduced", [None, "detection", "segmentation"])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_specs_are_what_comes_out(trunk: str, reduced: str | None) -> None:
    """Every tap, at odd and rectangular sizes, down to one pixel."""
    for width, output_stride, padding in ((0.35, 32, "same"), (1.0, 16, "symmetric"), (1.25, 8, "same")):
        model = TRUNKS[trunk](
            width=width, reduced=reduced, output_stride=output_stride, padding=padding, init=FAST
        ).eval()
        for size in ((33, 50), (1, 1)):
            with torch.inference_mode():
                features = model(torch.zeros(1, 3, *size))
            assert features.keys() == model.feature_specs.keys()
            for tap, spec in model.feature_specs.items():
                expected = (1, spec.channels, *(-(-side // spec.stride) for side in size))
                assert tuple(features[tap].shape) == expected, f"{tap} of {trunk} {width} {output_stride}"


@pytest.mark.parametrize(
    ("trunk", "options", "taps"),
    [  # (c2, c3, c3_depthwise, c4, c4_expansion, c5): channels
        ("v1", {}, (128, 256, 256, 512, 512, 1024)),  # Conv2d_11_pointwise, Conv2d_13_pointwise
        ("v1", {"reduced": "detection"}, (128, 256, 256, 512, 512, 512)),
        ("v1", {"width": 0.35}, (44, 89, 89, 179, 179, 358)),
        ("v2", {}, (24, 32, 192, 96, 576, 1280)),  # layer_15/expansion_output, layer_19
        ("v2", {"width": 0.35}, (8, 16, 96, 32, 192, 1280)),
        ("v2", {"width": 0.5, "divisor": 1, "min_depth": 1, "last": None}, (12, 16, 96, 48, 288, 160)),
        ("v2", {"width": 1.4, "divisor": 1, "min_depth": 1, "last": None}, (34, 45, 272, 134, 808, 448)),
        ("v2", {"width": 0.35, "last": "scaled"}, (8, 16, 96, 32, 192, 448)),
        ("v2", {"width": 1.4, "last": "unscaled"}, (32, 48, 288, 136, 816, 1792)),
        ("v2", {"reduced": "segmentation", "last": None}, (24, 32, 192, 96, 576, 160)),
        ("v2", {"reduced": "detection"}, (24, 32, 192, 96, 576, 640)),
        ("a1", {}, (24, 40, 120, 112, 672, 1280)),
        ("a1", {"reduced": "detection"}, (24, 40, 120, 112, 672, 640)),
        ("a1", {"reduced": "segmentation", "last": None}, (24, 40, 120, 112, 336, 160)),
        ("small", {}, (16, 16, 96, 32, 192, 1280)),
    ],
)
def test_taps_the_heads_attach_to(trunk: str, options: dict[str, object], taps: tuple[int, ...]) -> None:
    specs = TRUNKS[trunk](**options, init=FAST).feature_specs
    names, strides = ("c2", "c3", "c3_depthwise", "c4", "c4_expansion", "c5"), (4, 8, 8, 16, 16, 32)
    expected = {tap: FeatureSpec(c, s) for tap, c, s in zip(names, taps, strides, strict=True)}
    assert {tap: specs[tap] for tap in names} == expected


@pytest.mark.parametrize(
    ("trunk", "output_stride", "rates", "residuals"),
    [
        ("v1", 32, [1] * 13, []),
        ("v1", 16, [1] * 12 + [2], []),
        ("v2", 32, [1] * 17, [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]),
        ("v2", 16, [1] * 14 + [2] * 3, [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]),
        ("v2", 8, [1] * 7 + [2] * 7 + [4] * 3, [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]),
        ("a1", 16, [1] * 13 + [2] * 3, [3, 5, 6, 8, 9, 10, 12, 14, 15]),
        ("small", 32, [1] * 15, [4, 6, 7, 8, 9, 10, 11, 13, 14]),  # not 1 (8 -> 8) nor 3 (16 -> 16 at stride 2)
        ("small", 8, [1] * 5 + [2] * 7 + [4] * 3, [4, 6, 7, 8, 9, 10, 11, 13, 14]),
    ],
)
def test_atrous_rates_and_residuals(trunk: str, output_stride: int, rates: list[int], residuals: list[int]) -> None:
    model = TRUNKS[trunk](output_stride=output_stride, init=FAST)
    assert [block.depthwise.conv.dilation[0] for block in blocks(model)] == rates
    assert [number for number, block in enumerate(blocks(model), start=1) if block.residual] == residuals


@pytest.mark.parametrize(
    ("divisor", "squeezed"), [(1, [6, 10, 10, 20, 28, 28, 40, 40]), (8, [8, 16, 16, 24, 32, 32, 40, 40])]
)
def test_mnasnet_squeezes_to_a_quarter_of_the_blocks_input(divisor: int, squeezed: list[int]) -> None:
    gates = [block.se for block in blocks(MnasNet(squeeze_divisor=divisor, init=FAST)) if block.se is not None]
    assert [se.squeeze.out_channels for se in gates] == squeezed
    assert all(isinstance(se.gate, nn.Sigmoid) for se in gates)


@pytest.mark.parametrize(("trunk", "act"), [("v1", nn.ReLU6), ("v2", nn.ReLU6), ("a1", nn.ReLU), ("small", nn.ReLU)])
def test_activations(trunk: str, act: type) -> None:
    model = TRUNKS[trunk](width=0.35, init=FAST)
    acts = {type(block.depthwise.act) for block in blocks(model)} | {type(model.stem.act)}
    assert acts == {act}
    assert {type(block.project.act) for block in blocks(model)} == {act if trunk == "v1" else nn.Identity}
    assert model.last is None or isinstance(model.last.act, act)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_training_reaches_every_parameter(trunk: str) -> None:
    torch.manual_seed(0)
    model = TRUNKS[trunk](width=0.5, output_stride=16, init="torchvision")
    model(torch.randn(2, 3, 64, 64), ("c5",))["c5"].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_tap_is_not_changed_by_later_layers(trunk: str) -> None:
    model = TRUNKS[trunk](width=0.35).eval()
    images = torch.randn(1, 3, 33, 33)
    everything = model(images)
    for tap in model.feature_specs:
        assert torch.equal(model(images, (tap,))[tap], everything[tap]), tap


@pytest.mark.parametrize(
    ("trunk", "options", "message"),
    [
        ("v1", {"reduced": "both"}, "reduced='both': choose one of None"),
        ("v1", {"width": -1.0}, "width must be positive"),
        ("v2", {"last": "large"}, "last='large': choose one of None, 'unscaled', 'scaled'"),
        ("v2", {"divisor": 0}, "divisor must be at least 1, got 0"),
        ("v2", {"output_stride": 4}, "output_stride=4: choose one of 8, 16, 32"),
        ("a1", {"variant": "b1"}, "variant='b1': choose one of 'a1', 'small'"),
        ("a1", {"squeeze_divisor": 0}, "squeeze_divisor must be at least 1, got 0"),
        ("a1", {"padding": "valid"}, "padding"),
    ],
)
def test_refuses_what_it_does_not_know(trunk: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRUNKS[trunk](**options)


# ---- torchvision -----------------------------------------------------------------------------------------

IMAGES = torch.randn(2, 3, 97, 130, generator=torch.Generator().manual_seed(1))


def relative_differences(ours: MobileNetV2, theirs: nn.Module) -> list[float]:
    """The largest difference of every block, in standard deviations, after checking that there is one."""
    x, differences = IMAGES.double(), []
    layers = list(theirs.get_submodule("features").children())
    names = ["stem", *(f"block{number}" for number in range(1, len(layers) - 1)), "c5"]
    with torch.no_grad():
        outputs = ours(x, names)
        for name, layer in zip(names, layers, strict=True):
            x = layer(x)
            assert x.std() > 0.1, f"{name} is not lively"
            differences.append(((outputs[name] - x).abs().max() / x.std()).item())
    return differences


def both(width: float, enliven: Callable) -> tuple[MobileNetV2, nn.Module]:
    """Our network and torchvision's with the same lively weights, in float64."""
    theirs = enliven(mobilenet_v2(width_mult=width), IMAGES)
    ours = MobileNetV2(width=width, bn_eps=1e-5).double().eval()
    report = load_strict(ours, from_torchvision(theirs.state_dict()))
    assert set(report.loaded) == set(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("width", [1.4, 1.0, 0.75, 0.5, 0.35, 0.25])
def test_mobilenet_v2_is_torchvisions(width: float, enliven: Callable) -> None:
    assert max(relative_differences(*both(width, enliven))) < 1e-8


def test_parity_sees_one_perturbed_layer(enliven: Callable) -> None:
    ours, theirs = both(0.35, enliven)
    for layer in (
        "stem.conv",
        "blocks.0.depthwise.norm",
        "blocks.6.expand.conv",
        "blocks.16.project.conv",
        "last.norm",
    ):
        weight = ours.get_submodule(layer).get_parameter("weight")
        before = weight.detach().clone()
        weight.data *= 1 + 1e-4
        assert max(relative_differences(ours, theirs)) > 1e-6, layer
        weight.data = before
