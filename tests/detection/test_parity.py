"""The whole detector against torchvision's, same weights, same pictures, in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.weights import load_strict
from pocketvision.datasets.augmentation.resize import prepare
from pocketvision.datasets.images.decode import decode_image
from pocketvision.detection.anchors import AnchorLayout
from pocketvision.detection.boxes import iou
from pocketvision.detection.network import SSDLite
from pocketvision.detection.postprocess import Postprocess
from pocketvision.detection.results import Detections
from pocketvision.detection.weights import ssdlite_from_torchvision
from torch import Tensor
from torchvision.models.detection.ssd import SSD

LIMIT = 1e-8
FAST = "torchvision_detection"  # of the initializations


@pytest.fixture
def ours(torchvision_model: SSD) -> SSDLite:
    backbone = MobileNetV3(reduced="detection", init=FAST)
    model = SSDLite(backbone, num_classes=90, anchors=AnchorLayout.torchvision(), init=FAST)  # pyright: ignore
    report = load_strict(model.double(), ssdlite_from_torchvision(torchvision_model.state_dict()))
    assert set(report.loaded) == set(model.state_dict())
    return model.eval()


@pytest.fixture
def pictures() -> Tensor:
    """Blocks of colour under noise, `[3, 3, 320, 320]`."""
    generator = torch.Generator().manual_seed(7)
    blocks = (
        torch.randint(0, 256, (3, 3, 10, 10), generator=generator).repeat_interleave(32, 2).repeat_interleave(32, 3)
    )
    noise = torch.randint(-60, 61, (3, 3, 320, 320), generator=generator)
    return (blocks + noise).clamp(0, 255).to(torch.uint8)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def their_outputs(model: SSD, pictures: Tensor) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
    batch, _ = model.transform(list(pictures.double() / 255))
    features = list(model.backbone(batch.tensors).values())
    return features, model.head(features), model.anchor_generator(batch, features)[0]


def test_features_logits_deltas_anchors(torchvision_model: SSD, ours: SSDLite, pictures: Tensor) -> None:
    with torch.no_grad():
        features, head, anchors = their_outputs(torchvision_model, pictures)
        outputs, maps = ours(pictures), ours.features(pictures)
    for our_map, their_map in zip(maps, features, strict=True):
        assert their_map.std() > 0.1
        assert distance(our_map, their_map) < LIMIT
    assert head["cls_logits"].std() > 0.1
    assert head["bbox_regression"].std() > 0.1
    assert distance(outputs["class_logits"], head["cls_logits"]) < LIMIT
    assert distance(outputs["box_deltas"], head["bbox_regression"]) < LIMIT
    assert distance(outputs["anchors"], anchors) < LIMIT


def test_detections(torchvision_model: SSD, ours: SSDLite, pictures: Tensor) -> None:
    metas = [{"input_size": (320, 320), "original_size": (320, 320)}] * 3
    with torch.no_grad():
        theirs = torchvision_model(list(pictures.double() / 255))
        found = Postprocess.torchvision()(ours(pictures), metas)
    classes = set()
    for our, their in zip(found, theirs, strict=True):
        assert len(our) == len(their["boxes"]) == 300
        assert torch.equal(our.labels, their["labels"])
        assert distance(our.boxes, their["boxes"]) < LIMIT
        assert distance(our.scores, their["scores"]) < LIMIT
        classes |= set(our.labels.tolist())
    assert len(classes) > 20


def share_found(ours: Detections, theirs: dict[str, Tensor]) -> float:
    """Of `theirs`, those with one of ours of the same class at IoU 0.95 and a score within 0.02."""
    same = ours.labels[:, None] == theirs["labels"]
    close = (ours.scores[:, None] - theirs["scores"]).abs() <= 0.02
    return (same & close & (iou(ours.boxes, theirs["boxes"]) >= 0.95)).any(0).double().mean().item()


def test_detections_from_photographs(data_root: Path, torchvision_model: SSD, ours: SSDLite) -> None:
    """Through either side's own decoder and resize; a resize rounded to whole grey levels fails."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for path in sorted((data_root / "coco_mini" / "val2017").iterdir())[:4]:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        with torch.no_grad():
            theirs = torchvision_model([pixels.double() / 255])[0]
            assert len(theirs["boxes"]) == 300
            for exact in shares:
                image, meta = prepare(decode_image(path), (320, 320), exact=exact)
                found = Postprocess.torchvision()(ours(torch.from_numpy(image).permute(2, 0, 1)[None]), [meta])[0]
                shares[exact].append(share_found(found, theirs))
    assert np.mean(shares[True]) > 0.999
    assert 0.5 <= np.mean(shares[False]) <= 0.95


def test_one_changed_layer_is_seen(torchvision_model: SSD, ours: SSDLite, pictures: Tensor) -> None:
    with torch.no_grad():
        _, head, _ = their_outputs(torchvision_model, pictures[:1])
        for layer in ("backbone.blocks.3.se.excite", "extras.2.1.conv", "class_towers.5.0.norm"):
            weight = ours.get_submodule(layer).get_parameter("weight")
            before = weight.clone()
            weight.mul_(1 + 1e-4)
            assert distance(ours(pictures[:1])["class_logits"], head["cls_logits"]) > 100 * LIMIT, layer
            weight.copy_(before)


def test_foreign_names_are_refused(torchvision_model: SSD) -> None:
    state = torchvision_model.state_dict()
    with pytest.raises(ValueError, match=r"head\.mask is not a tensor of torchvision's SSDLite"):
        ssdlite_from_torchvision({**state, "head.mask": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"no name starts with 'backbone\.features\.0\.'"):
        ssdlite_from_torchvision({"conv1.weight": torch.zeros(1)})
