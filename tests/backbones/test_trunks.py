"""Every trunk keeps its promises: taps, channels, strides, the order of computation."""

from functools import partial
from typing import Any

import pytest
import torch
from pocketvision.backbones.blocks import BlockTrunk, InvertedResidual
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.features import FeatureSpec
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from torch import nn

FAST = "torchvision_detection"  # of the initializations
TRUNKS: dict[str, Any] = {
    "v1": MobileNetV1,
    "v2": MobileNetV2,
    "v2 without last": partial(MobileNetV2, last=None),
    "v3 large": MobileNetV3,
    "v3 small": partial(MobileNetV3, "small"),
    "v3 minimalistic": partial(MobileNetV3, minimalistic=True),
    "v3 of torchvision": partial(MobileNetV3, "small", atrous="torchvision", scaling="torchvision"),
    "a1": MnasNet,
    "small": partial(MnasNet, "small"),
}


def blocks(model: BlockTrunk) -> list[InvertedResidual]:
    return [block for block in model.blocks if isinstance(block, InvertedResidual)]


@pytest.mark.parametrize("reduced", [None, "detection", "segmentation"])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_specs_are_what_comes_out(trunk: str, reduced: str | None) -> None:
    """Every tap, at odd and rectangular sizes, down to one pixel."""
    for width, output_stride, padding in ((0.25, 32, "same"), (0.35, 16, "symmetric"), (0.6, 8, "same")):
        options = {"reduced": reduced, "output_stride": output_stride, "padding": padding}
        model = TRUNKS[trunk](width=width, init=FAST, **options).eval()
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
        ("v3 large", {}, (24, 40, 120, 112, 672, 960)),
        ("v3 large", {"reduced": "detection"}, (24, 40, 120, 112, 672, 480)),
        ("v3 large", {"reduced": "segmentation"}, (24, 40, 120, 112, 336, 480)),
        ("v3 small", {}, (16, 24, 88, 48, 288, 576)),
        ("v3 small", {"reduced": "detection"}, (16, 24, 88, 48, 288, 288)),
        ("v3 small", {"reduced": "segmentation"}, (16, 24, 88, 48, 144, 288)),
        ("a1", {}, (24, 40, 120, 112, 672, 1280)),
        ("a1", {"reduced": "detection"}, (24, 40, 120, 112, 672, 640)),
        ("a1", {"reduced": "segmentation", "last": None}, (24, 40, 120, 112, 336, 160)),
        ("small", {}, (16, 16, 96, 32, 192, 1280)),
    ],
)
def test_taps_the_heads_attach_to(trunk: str, options: dict[str, object], taps: tuple[int, ...]) -> None:
    with torch.device("meta"):
        specs = TRUNKS[trunk](**options, init=FAST).feature_specs
    names, strides = ("c2", "c3", "c3_depthwise", "c4", "c4_expansion", "c5"), (4, 8, 8, 16, 16, 32)
    expected = {tap: FeatureSpec(c, s) for tap, c, s in zip(names, taps, strides, strict=True)}
    assert {tap: specs[tap] for tap in names} == expected


LARGE, V2 = [1, 3, 5, 6, 8, 9, 10, 12, 14, 15], [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]


@pytest.mark.parametrize(
    ("trunk", "options", "rates", "residuals"),
    [
        ("v1", {}, [1] * 13, []),
        ("v1", {"output_stride": 16}, [1] * 12 + [2], []),
        ("v2", {}, [1] * 17, V2),
        ("v2", {"output_stride": 16}, [1] * 14 + [2] * 3, V2),
        ("v2", {"output_stride": 8}, [1] * 7 + [2] * 7 + [4] * 3, V2),
        ("v3 large", {}, [1] * 15, LARGE),
        ("v3 large", {"output_stride": 16, "reduced": "segmentation"}, [1] * 13 + [2] * 2, LARGE),
        ("v3 large", {"output_stride": 16, "atrous": "torchvision"}, [1] * 12 + [2] * 3, LARGE),
        ("v3 large", {"output_stride": 8}, [1] * 7 + [2] * 6 + [4] * 2, LARGE),
        ("v3 large", {"output_stride": 8, "atrous": "torchvision"}, [1] * 6 + [2] * 6 + [4] * 3, LARGE),
        ("v3 small", {"reduced": "segmentation"}, [1] * 11, [3, 5, 6, 8, 10, 11]),
        # block 9: 48 -> 48, now at stride 1; torchvision asks the table
        ("v3 small", {"output_stride": 16, "reduced": "segmentation"}, [1] * 9 + [2] * 2, [3, 5, 6, 8, 9, 10, 11]),
        ("v3 of torchvision", {"output_stride": 16, "reduced": "detection"}, [1] * 8 + [2] * 3, [3, 5, 6, 8, 10, 11]),
        ("a1", {"output_stride": 16}, [1] * 13 + [2] * 3, [3, 5, 6, 8, 9, 10, 12, 14, 15]),
        ("small", {}, [1] * 15, [4, 6, 7, 8, 9, 10, 11, 13, 14]),  # not 1 (8 -> 8) nor 3 (16 -> 16 at stride 2)
        ("small", {"first_residual": True}, [1] * 15, [1, 4, 6, 7, 8, 9, 10, 11, 13, 14]),
        ("small", {"output_stride": 8}, [1] * 5 + [2] * 7 + [4] * 3, [4, 6, 7, 8, 9, 10, 11, 13, 14]),
    ],
)
def test_atrous_rates_and_residuals(trunk: str, options: dict, rates: list[int], residuals: list[int]) -> None:
    with torch.device("meta"):
        model = TRUNKS[trunk](**options, init=FAST)
    assert [block.depthwise.conv.dilation[0] for block in blocks(model)] == rates
    assert [number for number, block in enumerate(blocks(model), start=1) if block.residual] == residuals


@pytest.mark.parametrize(
    ("divisor", "squeezed"), [(1, [6, 10, 10, 20, 28, 28, 40, 40]), (8, [8, 16, 16, 24, 32, 32, 40, 40])]
)
def test_mnasnet_squeezes_to_a_quarter_of_the_blocks_input(divisor: int, squeezed: list[int]) -> None:
    with torch.device("meta"):
        gates = [block.se for block in blocks(MnasNet(squeeze_divisor=divisor, init=FAST)) if block.se is not None]
    assert [se.squeeze.out_channels for se in gates] == squeezed
    assert all(isinstance(se.gate, nn.Sigmoid) for se in gates)


@pytest.mark.parametrize(
    ("trunk", "nonlinearity", "stem", "last_early_block", "late", "project"),
    [  # the stem's activation, the last block with ReLU, and the activation after it
        ("v1", None, nn.ReLU6, 0, nn.ReLU6, nn.ReLU6),
        ("v2", None, nn.ReLU6, 0, nn.ReLU6, nn.Identity),
        ("a1", None, nn.ReLU, 0, nn.ReLU, nn.Identity),
        ("small", None, nn.ReLU, 0, nn.ReLU, nn.Identity),
        ("v3 minimalistic", None, nn.ReLU, 0, nn.ReLU, nn.Identity),
        ("v3 small", None, nn.Hardswish, 3, nn.Hardswish, nn.Identity),
        ("v3 large", "paper", nn.Hardswish, 6, nn.Hardswish, nn.Identity),  # Table 5
        ("v3 large", "relu", nn.ReLU, 0, nn.ReLU, nn.Identity),
        ("v3 large", "hswish16", nn.Hardswish, 0, nn.Hardswish, nn.Identity),
        ("v3 large", "hswish112", nn.ReLU, 10, nn.Hardswish, nn.Identity),
    ],
)
def test_activations(
    trunk: str, nonlinearity: str | None, stem: type, last_early_block: int, late: type, project: type
) -> None:
    with torch.device("meta"):
        model = TRUNKS[trunk](width=0.35, init=FAST, **({"nonlinearity": nonlinearity} if nonlinearity else {}))
        head = Classifier(model, init=FAST)
    assert type(model.stem.act) is stem
    assert model.last is None or type(model.last.act) is late
    for number, block in enumerate(blocks(model), start=1):
        expected = nn.ReLU if number <= last_early_block else late
        assert type(block.depthwise.act) is expected, number
        assert block.expand is None or type(block.expand.act) is expected
        assert type(block.project.act) is project
    assert head.hidden is None or type(head.act) is late


def test_minimalistic_has_no_gates_no_large_kernels() -> None:
    layers = list(MobileNetV3("small", minimalistic=True, init=FAST).modules())
    assert not any(isinstance(layer, nn.Hardswish | nn.Hardsigmoid) for layer in layers)
    assert {layer.kernel_size[0] for layer in layers if isinstance(layer, nn.Conv2d)} == {1, 3}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_training_reaches_every_parameter(trunk: str) -> None:
    torch.manual_seed(0)
    model = TRUNKS[trunk](width=0.5, output_stride=16, init="torchvision")
    model(torch.randn(2, 3, 64, 64), ("c5",))["c5"].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_tap_is_not_changed_by_later_layers(trunk: str) -> None:
    """In-place activations must not reach what was handed out."""
    model = TRUNKS[trunk](width=0.35).eval()
    images = torch.randn(1, 3, 33, 33)
    everything = model(images)
    for tap in model.feature_specs:
        assert torch.equal(model(images, (tap,))[tap], everything[tap]), tap


def test_forward_returns_exactly_the_taps_asked_for() -> None:
    model = MobileNetV3("small", width=0.35).eval()
    images = torch.randn(2, 3, 64, 64)
    everything = model(images)
    assert model(images, ()) == {}
    chosen = model(images, ["c5", "c3_depthwise", "block3"])
    assert list(chosen) == ["c5", "c3_depthwise", "block3"]
    for tap, feature in chosen.items():
        assert torch.equal(feature, everything[tap])
    assert model(images[:0])["c5"].shape == (0, 200, 2, 2)


@pytest.mark.parametrize(
    ("taps", "last_layer"),
    [
        (("stem",), "stem.norm"),
        (("c3_depthwise",), "blocks.5.depthwise.norm"),
        (("c3_depthwise", "c4_expansion"), "blocks.12.expand.norm"),
        (("c4_expansion", "stem"), "blocks.12.expand.norm"),
        (("c4",), "blocks.11.project.norm"),
        (("c5",), "last.norm"),
    ],
)
def test_nothing_after_the_last_tap_is_computed(taps: tuple[str, ...], last_layer: str) -> None:
    model = MobileNetV3("large", width=0.35, init=FAST)
    ran: list[str] = []
    norms = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    for name, layer in norms.items():
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    model(torch.randn(2, 3, 64, 64), taps)
    assert ran == list(norms)[: list(norms).index(last_layer) + 1]


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_export_with_free_sizes(padding: str) -> None:
    model = MobileNetV3("small", width=0.35, padding=padding, init=FAST).eval()
    sides = {axis: torch.export.Dim(f"side{axis}", min=33, max=2049) for axis in (2, 3)}
    program = torch.export.export(model, (torch.randn(1, 3, 65, 97), ("c3",)), dynamic_shapes=(sides, (None,)))
    images = torch.randn(1, 3, 80, 50)
    torch.testing.assert_close(program.module()(images, ("c3",))["c3"], model(images, ("c3",))["c3"])


@pytest.mark.parametrize(
    ("trunk", "options", "message"),
    [
        ("v1", {"reduced": "both"}, "reduced='both': choose one of None"),
        ("v1", {"width": -1.0}, "width must be positive"),
        ("v1", {"width": 0.0}, "width must be positive"),
        ("v1", {"init": "xavier"}, "init='xavier': choose one of 'tf_slim', "),
        ("v2", {"last": "large"}, "last='large': choose one of None, 'unscaled', 'scaled'"),
        ("v2", {"divisor": 0}, "divisor must be at least 1, got 0"),
        ("v2", {"output_stride": 4}, "output_stride=4: choose one of 8, 16, 32"),
        ("v3 large", {"variant": "medium"}, "variant='medium': choose one of 'large', 'small'"),
        ("v3 large", {"atrous": "tf"}, "atrous='tf': choose one of 'reference', 'torchvision'"),
        ("v3 large", {"scaling": "tf"}, "scaling='tf': choose one of 'reference', 'torchvision'"),
        ("v3 large", {"gate": "hard"}, "gate='hard': choose one of 'exact', 'tf', 'sigmoid'"),
        ("v3 large", {"stem": "wide"}, "stem='wide': choose one of 'scaled', 'unscaled'"),
        ("v3 large", {"nonlinearity": "swish"}, "choose one of 'paper', 'relu', 'hswish16', 'hswish112'"),
        ("v3 small", {"nonlinearity": "relu"}, "only supported by V3-Large, not by small"),
        ("v3 minimalistic", {"nonlinearity": "hswish16"}, "not by large, minimalistic=True"),
        ("a1", {"variant": "b1"}, "variant='b1': choose one of 'a1', 'small'"),
        ("a1", {"squeeze_divisor": 0}, "squeeze_divisor must be at least 1, got 0"),
        ("a1", {"padding": "valid"}, "padding='valid': choose one of 'symmetric', 'same'"),
    ],
)
def test_refuses_what_it_does_not_know(trunk: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRUNKS[trunk](**options)


@pytest.mark.parametrize("taps", [("c6",), "c5", ("c5", "block16")])
def test_unknown_taps_are_an_error_that_lists_the_known(taps: tuple[str, ...] | str) -> None:
    with pytest.raises(ValueError, match=r"unknown taps .* of MobileNetV3; choose from \['stem', 'block1'"):
        MobileNetV3("large", width=0.35, init=FAST)(torch.randn(1, 3, 32, 32), taps)
