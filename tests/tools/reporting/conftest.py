"""Evaluated runs without networks: what was found, and what is wrong with it, is known by construction."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pocketvision.backbones.metric import TopAccuracy
from pocketvision.backbones.postprocess import Ranking
from pocketvision.datasets.annotations.sample import Sample
from pocketvision.datasets.labels import Label, LabelMap
from pocketvision.detection import analysis
from pocketvision.detection.errors import KINDS as ERRORS
from pocketvision.detection.metric import CocoMetric
from pocketvision.detection.results import Detections
from pocketvision.segmentation.metric import MeanIoU
from pocketvision.tools.drawing.figure import Chart
from pocketvision.tools.reporting import segmentation, writing
from pocketvision.tools.runs.loaded import LoadedRun
from torch import nn

SIDE = 96
GRID = np.linspace(0, 1, 101)
Maker = Callable[..., Path]


class Photos:
    """A source of noise."""

    notes = ()

    def __init__(self, labels: LabelMap, samples: list[Sample]) -> None:
        self.labels, self.samples = labels, samples
        self.image_ids = [sample.image_id for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> Sample:
        return self.samples[index]

    def fingerprint(self) -> str:
        return f"{len(self):016x}"


def names_of(count: int, first: str) -> list[str]:
    return [first, *(f"class {i}" for i in range(1, count))][:count]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE + 32, 3), dtype=np.uint8)


def image_name(number: int) -> str:
    return "<b>&0</b>" if number == 0 else f"image {number}"


# ---- detection -------------------------------------------------------------------------------------------


def detector(count: int, images: int, first: str, *, truths: bool, found: bool) -> tuple[Any, Photos, Any]:
    """Each image has three objects: one is found, one is taken for the next class, one is missed; and one false alarm.

    The last image is empty, where there are several.
    """
    labels = LabelMap(tuple(Label(i, name, i) for i, name in enumerate(names_of(count, first), 1)), count)
    metric = CocoMetric(labels.names)
    samples, errors = [], {}
    for number in range(images):
        name, empty = image_name(number), number == images - 1 > 0
        slots = np.array([(number + i) % count + 1 for i in range(3)])
        boxes = np.array([[4, 4, 20, 20], [40, 10, 30, 50], [80, 60, 40, 30]], float)
        real = boxes[: 0 if empty or not truths else 3]
        truth = {
            "boxes_xywh": real,
            "labels": slots[: len(real)],
            "area": real[:, 2] * real[:, 3],
            "crowd": np.zeros(len(real), bool),
        }
        rows = [(boxes[0], slots[0], 0.9), (boxes[1], slots[1] % count + 1, 0.7), (np.array([0, 70, 9, 9]), 1, 0.6)]
        rows = rows if found and not empty else []
        xywh = torch.tensor(np.array([box for box, _, _ in rows]).reshape(-1, 4))
        detections = Detections(
            torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
            torch.tensor([score for _, _, score in rows]),
            torch.tensor([slot for _, slot, _ in rows], dtype=torch.long),
        )
        metric.update([detections], [{}], [{"image_id": name, "ground_truth": truth}])
        kinds = ["correct", "classification", "background"] if truths else ["background"] * 3
        missed = list(range(len(real))) if not found else [1, 2][: len(real)]
        errors[name] = analysis.ImageErrors(name, kinds[: len(rows)], list(range(len(rows))), missed)
        samples.append(Sample(noise(number), name))
    confusion = np.zeros((count + 1, count + 1), np.int64)
    if truths and found:
        for k in range(count):
            confusion[k, [k, (k + 1) % count, count]] += (images, images, images)
    figures = [_figures(name, slot, truths, found) for slot, name in labels.names.items()]
    lost = dict.fromkeys(ERRORS, 0.1 * found if truths else None)
    return metric, Photos(labels, samples), analysis.DetectionAnalysis(figures, confusion, lost, errors, 0.5)


def _figures(name: str, slot: int, truths: bool, found: bool) -> analysis.ClassFigures:
    ap = 0.5 * found + slot / 1000 if truths else None
    return analysis.ClassFigures(
        name, slot, 9 * truths, 12 * found, ap, ap, ap, ap,
        GRID, np.linspace(1, 0, 101) * found, GRID, GRID * (1 - GRID), 0.5, 0.25 if truths else None,
    )  # fmt: skip


# ---- segmentation and classification ---------------------------------------------------------------------


def segmenter(count: int, images: int, first: str, *, truths: bool, found: bool) -> tuple[Any, Photos, Any]:
    """Stripes of classes; the prediction is right on the left half. Without truth all pixels are ignored."""
    labels = LabelMap(tuple(Label(i, name, i) for i, name in enumerate(names_of(count, first))), count)
    metric, samples, predictions = MeanIoU(labels.names), [], {}
    for number in range(images):
        shape = noise(0).shape[:2]
        mask = (np.arange(SIDE)[:, None] // 8 + number + np.zeros(shape, int)).astype(np.uint8) % count
        predicted = mask.copy()
        predicted[:, shape[1] // 2 :] = (mask[:, shape[1] // 2 :] + found) % count
        if not truths:
            mask[:] = 255
        mask[:8, :8] = 255
        name = image_name(number)
        metric.update([torch.from_numpy(predicted)], [{}], [{"image_id": name, "ground_truth": {"mask": mask}}])
        samples.append(Sample(noise(number), name, mask=mask))
        predictions[samples[-1].image.tobytes()] = predicted
    return metric, Photos(labels, samples), predictions


def classifier(count: int, images: int, first: str, *, truths: bool, found: bool) -> tuple[Any, Photos, Any]:
    """Every other image is taken for the next class, where `found`; `truths` means nothing: every image has a class."""
    labels = LabelMap(tuple(Label(i, name, i) for i, name in enumerate(names_of(count, first))), count)
    metric, samples = TopAccuracy(labels.names), []
    for number in range(images):
        label = number % count
        best = (label + (number % 2 if found else 0)) % count
        order = torch.tensor([best, *(i for i in range(count) if i != best)])
        ranking = Ranking(order, torch.linspace(0.9, 0.01, count))
        metric.update([ranking], [{"label": torch.tensor(label)}], [{"image_id": image_name(number)}])
        samples.append(Sample(noise(number), image_name(number), label=label))
    return metric, Photos(labels, samples), None


KINDS = {"detection": detector, "segmentation": segmenter, "classification": classifier}


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """A function that writes the report of a made-up run and gives the run's folder."""

    def make(
        kind: str,
        *,
        name: str = "run",
        count: int = 3,
        images: int = 4,
        first: str = "</script><script>alert(1)</script>",
        truths: bool = True,
        found: bool = True,
        trained: bool = True,
        shown: int = 48,
        charts: bool = False,
        **figures: float,
    ) -> Path:
        if not charts:  # they take most of the time, and lie beside the page
            monkeypatch.setattr(Chart, "picture", lambda chart: np.zeros((2, 2, 3), np.uint8))
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        metric, source, extra = KINDS[kind](count, images, first, truths=truths, found=found)
        if trained:
            rows = [{"kind": "train", "step": 10 * i, "loss": 2 / i, "lr": 0.1 / i} for i in range(1, 6)]
            rows += [{"kind": "val", "step": 50 * i, "loss": 1 / i, metric.primary: 0.1 * i} for i in (1, 2)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            bad = b'{"kind": "train", "step": Infinity}\n\xff\n{"kind": "train", "st'  # a crash cut the last row
            (folder / "metrics.jsonl").write_bytes(text.encode() + bad)
        config = OmegaConf.create({"model": {"network": {"_target_": "x.Net"}}, "name": name, "lr": len(name)})
        task: Any = SimpleNamespace(model=nn.Linear(2, 2))
        run = LoadedRun(task, config, folder, folder / "checkpoints" / "best.pt", 7)
        evaluation: Any = SimpleNamespace(kind=kind, labels=source.labels, metric=metric, analysis=extra, about={})

        def predict(image: np.ndarray) -> Any:
            return SimpleNamespace(mask=extra[image.tobytes()])

        monkeypatch.setattr(segmentation, "Predictor", lambda run: predict)
        writing.write_report(run, evaluation, metric.compute() | figures, source, split="val", images=shown)
        return folder

    return make
