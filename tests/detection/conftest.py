"""Networks with weights that make a difference, and the golden files of the TF graphs; pycocotools run on files."""

import contextlib
import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.detection.metric import CocoMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
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


class CocoFiles:
    """Made-up annotations and results in COCO's formats, scored by pycocotools from files, and by our metric."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def made_up(
        self,
        seed: int = 0,
        *,
        images: int = 12,
        categories: tuple[int, ...] = (3, 1, 70, 12),
        truths: int = 6,
        detections: int = 30,
        crowds: float = 0.15,
        text_ids: bool = False,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Boxes near the truth and anywhere, some renamed; no score twice in an image. The last class has no truth."""
        rng = np.random.default_rng(seed)
        annotations: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        ids = [f"image {n:03}" if text_ids else n for n in (rng.permutation(images) * 3).tolist()]
        for image in ids:
            boxes = self._boxes(rng, int(rng.integers(0, truths + 1)))
            labels = rng.choice(categories[:-1], len(boxes)).tolist()
            for box, label in zip(boxes.tolist(), labels, strict=True):
                kind = {"category_id": label, "area": box[2] * box[3] * 0.6, "iscrowd": int(rng.random() < crowds)}
                annotations.append({"id": len(annotations) + 1, "image_id": image, "bbox": box, **kind})
            for score in (rng.permutation(1000)[:detections] / 1000).tolist():
                box, label = self._boxes(rng, 1)[0], int(rng.choice(categories))
                if len(boxes) and rng.random() < 0.7:
                    i = int(rng.integers(len(boxes)))
                    box = np.abs(boxes[i] + rng.normal(0, 0.12, 4) * boxes[i][[2, 3, 2, 3]])
                    label = labels[i] if rng.random() < 0.8 else label
                results.append({"image_id": image, "category_id": label, "bbox": box.tolist(), "score": score})
        classes = [{"id": i, "name": f"class {i}"} for i in categories]
        return {"images": [{"id": i} for i in ids], "categories": classes, "annotations": annotations}, results

    @staticmethod
    def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.random((count, 4)) * [300, 300, 150, 150] + [0, 0, 4, 4]

    def pycocotools(self, truth: dict[str, Any], results: list[dict[str, Any]], *, most: int = 100) -> COCOeval:
        """As its own demo does it; but for `most` other than 100, where its summary looks for 100 and finds nothing.

        `loadRes` takes no empty list: that becomes a detection of no class that there is.
        """
        nothing = {"image_id": truth["images"][0]["id"], "category_id": -1, "bbox": [0, 0, 1, 1], "score": 0.5}
        (self.folder / "truth.json").write_text(json.dumps(truth))
        (self.folder / "results.json").write_text(json.dumps(results or [nothing]))
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(self.folder / "truth.json"))
            evaluation = COCOeval(coco, coco.loadRes(str(self.folder / "results.json")), "bbox")
            evaluation.params.maxDets = [1, 10, most]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def metric(self, truth: dict[str, Any], results: list[dict[str, Any]], **options: Any) -> CocoMetric:
        """The same in our metric: slots 1..n in the order of the category ids."""
        names = {c["id"]: c["name"] for c in truth["categories"]}
        slots = {category: slot for slot, category in enumerate(sorted(names), start=1)}
        metric = CocoMetric({slots[category]: name for category, name in names.items()}, **options)
        for image in truth["images"]:
            annotations = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            found = [r for r in results if r["image_id"] == image["id"]]
            scores = np.array([r["score"] for r in found], np.float64)
            metric.add(image["id"], self._arrays(found, slots) | {"scores": scores}, self.truth(annotations, slots))
        return metric

    def truth(self, annotations: list[dict[str, Any]], slots: dict[int, int]) -> dict[str, np.ndarray]:
        """One image's annotations as `CocoMetric.add` takes them."""
        area = np.array([a["area"] for a in annotations], np.float64)
        crowd = np.array([a["iscrowd"] for a in annotations], bool)
        return self._arrays(annotations, slots) | {"area": area, "crowd": crowd}

    @staticmethod
    def _arrays(records: list[dict[str, Any]], slots: dict[int, int]) -> dict[str, np.ndarray]:
        boxes = np.array([record["bbox"] for record in records], np.float64).reshape(-1, 4)
        return {"boxes_xywh": boxes, "labels": np.array([slots[r["category_id"]] for r in records], np.int64)}


@pytest.fixture
def coco_files(tmp_path: Path) -> CocoFiles:
    return CocoFiles(tmp_path)
