"""Optimized networks of every head, and the keys that ask for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pocketvision
import pytest
import torch
from pocketvision.backbones.optimized import optimize
from pocketvision.tools.config.build import build_task, compose
from pocketvision.tools.predict import predict
from torch import nn

HEADS = {
    "ssdlite": ("experiment=demo_detection", "backbone.width=0.35"),
    "ssdlite_torchvision": (
        "experiment=demo_detection", "model=ssdlite_torchvision", "model/criterion=hard_negative",
        "backbone.width=0.35",
    ),
    "ssdlite_v2": ("experiment=demo_detection", "backbone=mobilenet_v2", "backbone.padding=same"),
    "lraspp": ("experiment=demo_segmentation", "backbone.width=0.35"),
    "raspp": ("experiment=demo_segmentation", "model=raspp", "backbone=mnasnet_small"),
    "espnet": ("experiment=demo_segmentation", "model=espnet", "backbone=none"),
    "espnetv2": ("experiment=demo_segmentation", "model=espnetv2", "model.network.width=0.5", "backbone=none"),
    "c3net": ("experiment=demo_segmentation", "model=c3net", "backbone=none"),
}  # fmt: skip


@pytest.mark.parametrize("overrides", HEADS.values(), ids=HEADS)
def test_every_head_computes_the_same(overrides: tuple[str, ...], enliven: Callable) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 96, 128), dtype=np.uint8))
    model = enliven(build_task(compose(*overrides, "data.num_classes=6")).model, images)
    fast = optimize(model, dtype=torch.float64)
    with torch.inference_mode():
        expected, found = model(images), fast(images)
    for name in expected.keys() - {"logits_size", "anchors"}:
        assert expected[name].std() > 1e-3
        assert (found[name] - expected[name]).abs().max() < 1e-9 * expected[name].std()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    # Those behind a sum or a concatenation have no convolution to go into.
    assert norms == 0 if "backbone=none" not in overrides else norms <= 20


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 1e-3),
        ({"precision": "bf16"}, 0.2),
        # needs a C++ compiler, and more than a minute of it
        pytest.param({"compile": True}, 1e-3, marks=(pytest.mark.slow, pytest.mark.by_hand)),
    ],
)
def test_from_python(options: dict, limit: float, trained_run: Callable[[str], Path]) -> None:
    run, photo = trained_run("segmentation"), np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    model = pocketvision.load(run, optimize=True, **options)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.task.model.modules())
    assert (model(photo).mask != pocketvision.load(run)(photo).mask).mean() < limit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16"}, "need optimize"),
        ({"compile": True}, "need optimize"),
        ({"optimize": True, "precision": "fp16"}, "fp32 or bf16"),
    ],
)
def test_contradictions(trained_run: Callable[[str], Path], options: dict, message: str) -> None:
    run = trained_run("segmentation")
    with pytest.raises(ValueError, match=message):
        pocketvision.load(run, **options)
    config = compose(f"run={run}", *(f"{k}={str(v).lower()}" for k, v in options.items()), config_name="predict")
    config.inputs = [str(Path(pocketvision.__file__).parent / "docs" / "demo.png")]
    with pytest.raises(ValueError, match=message):
        predict(config)
