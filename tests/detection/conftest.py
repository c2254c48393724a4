"""Networks with weights that make a difference, and the golden files of the TF graphs."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD

ASSETS = Path(__file__).parent.parent / "assets" / "tf"


@pytest.fixture(scope="session")
def tf_assets() -> Path:
    return ASSETS


@pytest.fixture
def float64() -> Iterator[None]:
    """torchvision computes its anchors in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def enliven(model: nn.Module, seed: int = 0) -> None:
    """Weights that neither vanish nor explode: torchvision's own give logits of 1e-14 in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.1, generator=generator)


@pytest.fixture
def torchvision_model(float64: None, lively_torchvision_model: SSD) -> SSD:
    """torchvision's SSDLite in float64, lively; a copy, to be changed."""
    return copy.deepcopy(lively_torchvision_model)


@pytest.fixture(scope="session")
def lively_torchvision_model() -> SSD:
    """Its batch statistics are those of noise."""
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).double()
    enliven(model)
    generator = model.anchor_generator
    generator._wh_pairs = generator._generate_wh_pairs(6, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the last batch
    noise = torch.rand(4, 3, 320, 320, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        model.train().head(list(model.backbone(noise).values()))
    return model.eval()
