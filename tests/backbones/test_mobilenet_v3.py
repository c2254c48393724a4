"""The trunk keeps its promises: taps, channels, strides, the order of computation."""

import itertools

import pytest
import torch
from pocketvision.backbones.blocks import InvertedResidual
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.features import FeatureSpec
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from torch import nn

VARIANTS = ("large", "small")
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25, 1.5)


def residual_blocks(model: MobileNetV3) -> list[int]:
    blocks = [block for block in model.blocks if isinstance(block, InvertedResidual)]
    return [number for number, block in enumerate(blocks, start=1) if block.residual]


def rates(model: MobileNetV3) -> list[int]:
    return [block.depthwise.conv.dilation[0] for block in model.blocks if isinstance(block, InvertedResidual)]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("reduced", [None, "detection", "segmentation"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_specs_are_what_comes_out(variant: str, reduced: str | None, output_stride: int) -> None:
    """Every tap of every network, at odd and rectangular sizes, down to one pixel."""
    for width, padding, minimalistic, atrous in itertools.product(
        WIDTHS, ("symmetric", "same"), (False, True), ("reference", "torchvision")
    ):
        if width not in (0.35, 1.0) and (minimalistic or atrous == "torchvision"):
            continue
        model = MobileNetV3(
            variant,
            width=width,
            reduced=reduced,
            output_stride=output_stride,
            padding=padding,
            minimalistic=minimalistic,
            atrous=atrous,
            init="torchvision_detection",  # the fastest
        ).eval()
        for size in ((33, 50), (64, 31), (1, 1)):
            with torch.inference_mode():
                features = model(torch.zeros(1, 3, *size))
            assert features.keys() == model.feature_specs.keys()
            for tap, spec in model.feature_specs.items():
                expected = (1, spec.channels, *(-(-side // spec.stride) for side in size))
                assert tuple(features[tap].shape) == expected, f"{tap} of {variant} {width} {padding}"


@pytest.mark.parametrize(
    ("variant", "taps"),
    [
        ("large", {"c2": (24, 4), "c3": (40, 8), "c3_depthwise": (120, 8), "c4": (112, 16), "c4_expansion": (672, 16)}),
        ("small", {"c2": (16, 4), "c3": (24, 8), "c3_depthwise": (88, 8), "c4": (48, 16), "c4_expansion": (288, 16)}),
    ],
)
def test_taps_the_heads_attach_to(variant: str, taps: dict[str, tuple[int, int]]) -> None:
    specs = MobileNetV3(variant).feature_specs
    assert {tap: specs[tap] for tap in taps} == {tap: FeatureSpec(*spec) for tap, spec in taps.items()}


@pytest.mark.parametrize(
    ("variant", "reduced", "tail"),
    [  # c4_expansion, expansion of the last block, its output, c5
        ("large", None, (672, 960, 160, 960)),
        ("large", "detection", (672, 480, 80, 480)),
        ("large", "segmentation", (336, 480, 80, 480)),
        ("small", None, (288, 576, 96, 576)),
        ("small", "detection", (288, 288, 48, 288)),
        ("small", "segmentation", (144, 288, 48, 288)),
    ],
)
def test_reduction(variant: str, reduced: str | None, tail: tuple[int, ...]) -> None:
    model = MobileNetV3(variant, reduced=reduced)
    last = model.blocks[-1]
    assert isinstance(last, InvertedResidual)
    channels = (
        model.feature_specs["c4_expansion"].channels,
        last.depthwise.conv.in_channels,
        last.project.conv.out_channels,
        model.feature_specs["c5"].channels,
    )
    assert channels == tail


@pytest.mark.parametrize(
    ("output_stride", "atrous", "tail_rates", "strides"),
    [
        (32, "reference", [1, 1, 1, 1, 1, 1, 1, 1, 1], (16, 16, 32)),
        (16, "reference", [1, 1, 1, 1, 1, 1, 1, 2, 2], (16, 16, 16)),
        (16, "torchvision", [1, 1, 1, 1, 1, 1, 2, 2, 2], (16, 16, 16)),
        (8, "reference", [1, 2, 2, 2, 2, 2, 2, 4, 4], (8, 8, 8)),
        (8, "torchvision", [2, 2, 2, 2, 2, 2, 4, 4, 4], (8, 8, 8)),
    ],
)
def test_atrous_rules(output_stride: int, atrous: str, tail_rates: list[int], strides: tuple[int, int, int]) -> None:
    model = MobileNetV3("large", output_stride=output_stride, atrous=atrous)
    assert rates(model) == [1] * 6 + tail_rates
    assert tuple(model.feature_specs[tap].stride for tap in ("c4", "c4_expansion", "c5")) == strides


@pytest.mark.parametrize(
    ("variant", "reduced", "output_stride", "atrous", "blocks"),
    [
        ("large", None, 32, "reference", [1, 3, 5, 6, 8, 9, 10, 12, 14, 15]),
        ("large", "segmentation", 16, "reference", [1, 3, 5, 6, 8, 9, 10, 12, 14, 15]),
        ("small", "segmentation", 32, "reference", [3, 5, 6, 8, 10, 11]),
        ("small", "segmentation", 16, "reference", [3, 5, 6, 8, 9, 10, 11]),  # block 9: 48 -> 48, now at stride 1
        ("small", "detection", 16, "torchvision", [3, 5, 6, 8, 10, 11]),  # torchvision asks the table
    ],
)
def test_residuals(variant: str, reduced: str | None, output_stride: int, atrous: str, blocks: list[int]) -> None:
    model = MobileNetV3(variant, reduced=reduced, output_stride=output_stride, atrous=atrous)
    assert residual_blocks(model) == blocks


def test_minimalistic_has_no_gates_no_h_swish_no_large_kernels() -> None:
    for variant in VARIANTS:
        layers = list(MobileNetV3(variant, minimalistic=True).modules())
        assert not any(isinstance(layer, nn.Hardswish | nn.Hardsigmoid) for layer in layers)
        assert {layer.kernel_size[0] for layer in layers if isinstance(layer, nn.Conv2d)} == {1, 3}


@pytest.mark.parametrize(
    ("nonlinearity", "stem", "last_relu_block", "last"),
    [
        ("paper", nn.Hardswish, 6, nn.Hardswish),
        ("relu", nn.ReLU, 15, nn.ReLU),
        ("hswish16", nn.Hardswish, 0, nn.Hardswish),
        ("hswish112", nn.ReLU, 10, nn.Hardswish),
    ],
)
def test_nonlinearities_of_table_5(nonlinearity: str, stem: type, last_relu_block: int, last: type) -> None:
    model = MobileNetV3(nonlinearity=nonlinearity, width=0.35)
    assert isinstance(model.stem.act, stem)
    assert isinstance(model.last.act, last)
    for number, block in enumerate(model.blocks, start=1):
        assert isinstance(block, InvertedResidual)
        expected = nn.ReLU if number <= last_relu_block else nn.Hardswish
        assert isinstance(block.depthwise.act, expected), number
        assert block.expand is None or isinstance(block.expand.act, expected)
        assert isinstance(block.project.act, nn.Identity)
    head = Classifier(model)
    assert isinstance(head.act, last)
    assert head.state_dict().keys() == Classifier(MobileNetV3()).state_dict().keys()


def test_forward_returns_exactly_the_taps_asked_for() -> None:
    model = MobileNetV3("small").eval()
    images = torch.randn(2, 3, 64, 64)
    everything = model(images)
    assert model(images, ()) == {}
    chosen = model(images, ["c5", "c3_depthwise", "block3"])
    assert list(chosen) == ["c5", "c3_depthwise", "block3"]
    for tap, feature in chosen.items():
        assert torch.equal(feature, everything[tap])
    assert model(images[:0])["c5"].shape == (0, 576, 2, 2)


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
    model = MobileNetV3("large")
    ran: list[str] = []
    norms = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    for name, layer in norms.items():
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    model(torch.randn(2, 3, 64, 64), taps)
    assert ran == list(norms)[: list(norms).index(last_layer) + 1]


def test_a_tap_is_not_changed_by_later_layers() -> None:
    """In-place activations must not reach what was handed out."""
    model = MobileNetV3("small").eval()
    images = torch.randn(1, 3, 64, 64)
    everything = model(images)
    for tap in model.feature_specs:
        assert torch.equal(model(images, (tap,))[tap], everything[tap]), tap


def test_training_reaches_every_parameter() -> None:
    model = MobileNetV3("small", reduced="detection", output_stride=16)
    model(torch.randn(2, 3, 64, 64), ("c5",))["c5"].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_export_with_free_sizes(padding: str) -> None:
    model = MobileNetV3("small", padding=padding).eval()
    sides = {axis: torch.export.Dim(f"side{axis}", min=33, max=2049) for axis in (2, 3)}
    program = torch.export.export(
        model, (torch.randn(1, 3, 65, 97), ("c3", "c5")), dynamic_shapes=(sides, (None, None))
    )
    images = torch.randn(1, 3, 80, 50)
    exported = program.module()(images, ("c3", "c5"))
    for tap, feature in model(images, ("c3", "c5")).items():
        torch.testing.assert_close(exported[tap], feature)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "medium"}, "variant='medium': choose one of 'large', 'small'"),
        ({"reduced": "both"}, "reduced='both': choose one of None"),
        ({"output_stride": 4}, "output_stride=4: choose one of 8, 16, 32"),
        ({"atrous": "tf"}, "atrous"),
        ({"scaling": "tf"}, "scaling"),
        ({"padding": "valid"}, "padding"),
        ({"gate": "hard"}, "gate"),
        (
            {"nonlinearity": "swish"},
            "nonlinearity='swish': choose one of 'paper', 'relu', 'hswish16', 'hswish112'",
        ),
        ({"variant": "small", "nonlinearity": "relu"}, "only supported by V3-Large, not by small"),
        ({"minimalistic": True, "nonlinearity": "hswish16"}, "not by large, minimalistic=True"),
        ({"init": "xavier"}, "initialization"),
        ({"width": 0.0}, "width must be positive"),
    ],
)
def test_refuses_what_it_does_not_know(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileNetV3(**arguments)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("taps", [("c6",), "c5", ("c5", "block16")])
def test_unknown_taps_are_an_error_that_lists_the_known(taps: tuple[str, ...] | str) -> None:
    with pytest.raises(ValueError, match=r"unknown taps .* of MobileNetV3; choose from \['stem', 'block1'"):
        MobileNetV3("large")(torch.randn(1, 3, 32, 32), taps)
