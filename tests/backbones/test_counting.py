"""Parameters and multiply-adds against the paper's tables and against torch's own counter."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.counting import count, layer_table
from pocketvision.backbones.features import Backbone
from pocketvision.backbones.layers import SqueezeExcite
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

IMAGE = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("variant", "params", "conv_madds", "printed_madds"),
    [("large", 5_483_032, 216.59e6, 219e6), ("small", 2_542_856, 56.51e6, 57e6)],
)
def test_classifiers_of_the_paper(variant: str, params: int, conv_madds: float, printed_madds: float) -> None:
    """Tables 3 and 9; the printed multiply-adds lie between the convolutions' alone and those with the extras."""
    counts = count(Classifier(MobileNetV3(variant)), IMAGE)
    assert counts.params == params
    assert counts.conv_madds == pytest.approx(conv_madds, abs=5e3)
    assert counts.conv_madds < printed_madds < counts.madds


# Table 3 prints MobileNetV2's parameters and multiply-adds cut off (3.4, 300; 1.6, 59.2), MnasNet-A1's as 3.9 and 315.
# Mnas-small's 1.9 and 65.1 are not those of the released code, which has what we have.
@pytest.mark.parametrize(
    ("backbone", "num_classes", "params", "madds"),
    [
        (partial(MobileNetV1), 1001, 4_233_001, 568.7),
        (partial(MobileNetV2), 1000, 3_504_872, 300.8),
        (partial(MobileNetV2), 1001, 3_506_153, 300.8),
        (partial(MobileNetV2, width=0.35), 1000, 1_677_128, 59.3),
        (partial(MnasNet), 1000, 3_887_038, 311.6),
        (partial(MnasNet, "small"), 1000, 2_030_264, 68.3),
    ],
)
def test_other_classifiers(backbone: Callable[[], Backbone], num_classes: int, params: int, madds: float) -> None:
    counts = count(Classifier(backbone(), num_classes=num_classes), IMAGE)
    assert counts.params == params
    assert round(counts.conv_madds / 1e6, 1) == madds


@pytest.mark.parametrize(
    ("variant", "width", "millions", "printed_madds"),
    [
        ("large", 0.35, 2.13, 40e6),
        ("large", 0.5, 2.69, 69e6),
        ("large", 0.75, 3.99, 155e6),
        ("large", 1.25, 7.55, 356e6),
        ("small", 0.35, 1.36, 12e6),
        ("small", 0.5, 1.59, 21e6),
        ("small", 0.75, 2.04, 44e6),
        ("small", 1.25, 3.65, 91e6),
    ],
)
def test_widths_of_table_9(variant: str, width: float, millions: float, printed_madds: float) -> None:
    counts = count(Classifier(MobileNetV3(variant, width=width), num_classes=1001), IMAGE)
    assert round(counts.params / 1e6, 2) == millions
    assert counts.conv_madds == pytest.approx(printed_madds, abs=0.9e6)


@pytest.mark.parametrize(("variant", "params", "madds"), [("large", 3.926, 209.1), ("small", 2.046, 52.3)])
def test_minimalistic(variant: str, params: float, madds: float) -> None:
    counts = count(Classifier(MobileNetV3(variant, minimalistic=True), num_classes=1001), IMAGE)
    assert round(counts.params / 1e6, 3) == params
    assert round(counts.madds / 1e6, 1) == madds
    assert counts.madds == counts.conv_madds


@pytest.mark.parametrize(
    ("variant", "reduced", "extras"),
    [  # Table 6: multiply-adds with the extras less those without, in millions, all of it the trunk's
        ("large", None, 621.7 - 613.1),
        ("large", "detection", 514.5 - 506.6),
        ("small", None, 214.8 - 210.4),
        ("small", "detection", 166.3 - 162.3),
    ],
)
def test_extras_of_table_6(variant: str, reduced: str | None, extras: float) -> None:
    counts = count(MobileNetV3(variant, reduced=reduced), torch.zeros(1, 3, 320, 320))
    assert (counts.madds - counts.conv_madds) / 1e6 == pytest.approx(extras, abs=0.1)


@pytest.mark.parametrize(
    ("reduced", "output_stride", "extras"), [("segmentation", 16, 9.740 - 9.533), ("segmentation", 32, 7.739 - 7.581)]
)
def test_extras_of_table_7(reduced: str, output_stride: int, extras: float) -> None:
    with torch.device("meta"):
        model = MobileNetV3("large", reduced=reduced, output_stride=output_stride)
        counts = count(model, torch.zeros(1, 3, 1025, 2049))
    assert (counts.madds - counts.conv_madds) / 1e9 == pytest.approx(extras, abs=0.0015)


def test_extras_are_two_for_each_gated_element_and_h_swish() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Hardswish(), SqueezeExcite(16), nn.Flatten(), nn.Linear(16 * 30, 2))
    counts = count(model, torch.zeros(2, 3, 5, 6))
    assert counts.params == counts.conv_params == 16 * 4 + (16 * 8 + 8) + (8 * 16 + 16) + (16 * 30 * 2 + 2)
    assert counts.conv_madds == 2 * (3 * 16 * 30 + 2 * 16 * 8 + 16 * 30 * 2)
    assert counts.madds - counts.conv_madds == 2 * (2 * 16 * 30 + 2 * 16 * 30)


def test_conv_madds_are_half_of_torchs_flops() -> None:
    model = Classifier(MobileNetV3("small", output_stride=16)).eval()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(IMAGE)
    assert count(model, IMAGE).conv_madds * 2 == flops.get_total_flops()


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
        {"kernel_size": (4, 3), "stride": (3, 1), "padding": (0, 2), "dilation": (1, 2), "bias": False},
    ],
    ids=str,
)
def test_transposed_convolutions(options: dict[str, Any]) -> None:
    model, images = nn.ConvTranspose2d(4, 6, **options), torch.zeros(2, 4, 5, 7)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(images)
    assert count(model, images).conv_madds * 2 == flops.get_total_flops()
    assert count(model, images).conv_madds == 2 * 5 * 7 * model.weight.numel()


def test_counting_leaves_the_model_as_it_was() -> None:
    model = Classifier(MobileNetV3("small"))
    model.backbone.blocks[3].eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model, IMAGE)
    with pytest.raises(RuntimeError):
        count(model, torch.zeros(1, 4, 8, 8, dtype=torch.uint8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_layer_table_adds_up_in_the_order_of_computation() -> None:
    model = Classifier(MobileNetV3("large"))
    rows, counts = layer_table(model, IMAGE), count(model, IMAGE)
    assert sum(row.params for row in rows) == counts.params
    assert sum(row.madds for row in rows) == counts.madds
    assert [row.name for row in rows][:2] == ["normalize", "backbone.stem.conv"]
    assert (rows[-1].name, rows[-1].type, rows[-1].output_shape) == ("logits", "Linear", (1, 1000))


def test_a_layer_called_twice_works_twice_and_has_its_parameters_once() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert [(row.params, row.madds) for row in layer_table(model, torch.zeros(1, 4))] == [(20, 16), (0, 0), (0, 16)]
    assert count(model, torch.zeros(1, 4)).madds == 32
