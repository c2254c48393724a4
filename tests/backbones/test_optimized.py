from collections.abc import Callable

import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.optimized import fold_batch_norms, optimize
from torch import Tensor, nn

TRUNKS = {
    "v1": lambda: MobileNetV1(width=0.25),
    "v2": lambda: MobileNetV2(width=0.35, padding="same"),
    "mnasnet": lambda: MnasNet("small"),
    "v3": lambda: MobileNetV3("small", width=0.5, gate="tf"),
    "minimalistic": lambda: MobileNetV3("large", width=0.35, minimalistic=True, padding="same"),
}


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 63, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def distance(one: Tensor, other: Tensor) -> float:
    assert other.std() > 0.01
    return ((one.double() - other.double()).abs().max() / other.double().std()).item()


@pytest.mark.parametrize("make", TRUNKS.values(), ids=TRUNKS)
def test_computes_the_same(make: Callable, images: Tensor, enliven: Callable) -> None:
    model = enliven(Classifier(make(), num_classes=7), images).eval().float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(images)["logits"]
        found = optimize(model)(images)["logits"]
        assert distance(found, expected) < 1e-4
        assert distance(optimize(model.double(), dtype=torch.float64)(images)["logits"], model(images)["logits"]) < 1e-9
    assert all(torch.equal(before[name], value) for name, value in model.float().state_dict().items())  # stays as it is
    assert not any(isinstance(module, nn.BatchNorm2d) for module in optimize(model).modules())


def test_bfloat16(images: Tensor, enliven: Callable) -> None:
    """All but the normalisation, which would round the pixels."""
    model = enliven(Classifier(MobileNetV3("small", width=0.5), num_classes=7), images).eval().float()
    fast = optimize(model, dtype=torch.bfloat16)
    assert isinstance(fast, Classifier)
    assert fast.normalize.scale.dtype == torch.float32
    assert fast.normalize(images).dtype == torch.bfloat16
    torch.testing.assert_close(fast.normalize(images), model.normalize(images).bfloat16(), rtol=0, atol=0)
    with torch.no_grad():
        logits = fast(images)["logits"]
        assert logits.dtype == torch.bfloat16
        assert 1e-4 < distance(logits, model(images)["logits"]) < 0.5
    assert images.dtype == torch.uint8


def test_a_wrong_statistic_shows(images: Tensor, enliven: Callable) -> None:
    model = enliven(Classifier(MobileNetV3("small", width=0.5), num_classes=7), images).eval()
    fast = optimize(model)
    assert isinstance(model.backbone, MobileNetV3)
    model.backbone.blocks[3].depthwise.norm.running_mean += 0.01
    with torch.no_grad():
        assert distance(fast(images)["logits"], model(images)["logits"]) > 1e-3


def test_pairs_are_told_by_name() -> None:
    assert fold_batch_norms(nn.Sequential().eval()) == 0
    pair = nn.Module()
    pair.row, pair.row_norm, pair.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    assert fold_batch_norms(pair.eval()) == 1
    assert isinstance(pair.row_norm, nn.Identity)
    assert isinstance(pair.norm, nn.BatchNorm2d)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="float16"):
        optimize(nn.Sequential(), dtype=torch.float16)
    with pytest.raises(ValueError, match=r"model.eval\(\)"):
        fold_batch_norms(nn.Sequential())
