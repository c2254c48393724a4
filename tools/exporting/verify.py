"""Verification of an exported file: its results beside PyTorch's, on the same photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ...absent import Results, written
from ...datasets.augmentation.resize import prepare
from ..predicting.exported import ExportedPredictor
from ..runs.loaded import LoadedRun

NEAR = 0.1  # pixels: boxes clipped to almost no area overlap nothing, not even themselves


@dataclass(frozen=True)
class Limits:
    """Allowed differences: rounding errors, and their consequences.

    The limits for fp32 are at least 4 times the differences measured on full-size networks; those for fp16 and bf16 are
    4 to 10 times those of trained networks (SSDLite on blood cells, LR-ASPP on streets).

    - `raw`: the largest difference of a raw output, relative to that output's standard deviation.
    - `iou`, `score`: a detection is matched if one of the same class has this IoU (or corners within `NEAR` pixels)
      and a score within this difference.
    - `unmatched`: the share of unmatched detections. Not 0: nearly equal scores may swap places, which changes which
      box suppresses which, and which one is the last of `max_detections`.
    - `pixels`: the share of differing pixels in label maps; `probability`: the largest difference.
    """

    raw: float
    iou: float
    score: float
    unmatched: float
    pixels: float
    probability: float


LIMITS = {
    "fp32": Limits(raw=1e-3, iou=0.99, score=1e-3, unmatched=0.02, pixels=1e-3, probability=1e-3),
    "fp16": Limits(raw=0.04, iou=0.95, score=0.02, unmatched=0.03, pixels=5e-3, probability=0.02),
    "bf16": Limits(raw=0.3, iou=0.8, score=0.1, unmatched=0.15, pixels=0.02, probability=0.1),
    # Reported only: int8 is judged by the metric.
    **dict.fromkeys(
        ("int8", "int8_weights"), Limits(raw=inf, iou=0.8, score=0.1, unmatched=inf, pixels=inf, probability=inf)
    ),
}


@dataclass
class Comparison:
    """Measured differences by name, each with its limit."""

    photos: int
    figures: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    counts: Results = field(default_factory=dict)  # reported, without a limit

    def add(self, name: str, value: float, limit: float) -> None:
        self.figures[name], self.limits[name] = value, limit

    @property
    def wrong(self) -> list[str]:
        """Differences above their limits; NaN counts as above."""
        return [name for name, value in self.figures.items() if not value <= self.limits[name]]

    def table(self) -> str:
        rows = [f"  {name:<42} {value:10.2e}{self._limit(name)}" for name, value in self.figures.items()]
        return "\n".join([*rows, *(f"  {name:<42} {written(value, '.4g'):>10}" for name, value in self.counts.items())])

    def _limit(self, name: str) -> str:
        if self.limits[name] == inf:
            return ""
        return f"   at most {self.limits[name]:.0e}{'   WRONG' if name in self.wrong else ''}"

    def to_json(self) -> dict[str, Any]:
        limits = {name: None if limit == inf else limit for name, limit in self.limits.items()}
        return {"photos": self.photos, "figures": self.figures, "limits": limits, **self.counts}


def compare(
    run: LoadedRun, files: Mapping[str, ExportedPredictor], photos: Sequence[np.ndarray], *, precision: str
) -> Comparison:
    """Compare raw outputs and final results of PyTorch and of the file's runtime.

    Args:
        files: by their `outputs`: "raw", another one, or both with the other one last.
        photos: uint8 RGB [H, W, 3].
    """
    limits, some = LIMITS[precision], next(iter(files.values()))
    result = Comparison(len(photos))
    raw_pairs, final_pairs = [], []
    size = some.batch or 2
    for start in range(0, len(photos), size):
        images = [_fitting(photo, some) for photo in photos[start : start + size]]
        outputs, expected, metas = _eager(run, images, files.get("final", some))
        array = some.arrange(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        found = {name: model.file.run(array) for name, model in files.items()}
        last = [*files][-1]
        if raw := found.get("raw"):
            raw_pairs.append(({name: outputs[name][: len(images)].numpy() for name in raw if name != "anchors"}, raw))
        final_pairs += zip(expected, files[last].finish(found[last], metas), strict=True)
    for name in raw_pairs[0][0] if raw_pairs else ():
        result.add(f"{name}: difference / deviation", relative_difference(name, raw_pairs), limits.raw)
    kind = run.task.kind
    name, limit = {
        "detection": ("unmatched detections", limits.unmatched),
        "segmentation": ("differing pixels", limits.pixels),
        "classification": ("probability: difference", limits.probability),
    }[kind]
    result.add(name, difference(kind, final_pairs, limits), limit)
    if kind == "detection":
        result.counts["detections"] = sum(len(a) for a, _ in final_pairs)
    elif kind == "classification":
        result.counts["same best class"] = float(np.mean([bool(a.labels[0] == b.labels[0]) for a, b in final_pairs]))
    elif all(a.shape == b.shape for a, b in final_pairs):
        result.counts |= _agreement(final_pairs, run.task.labels.num_classes)
    return result


def _fitting(photo: np.ndarray, model: ExportedPredictor) -> np.ndarray:
    """A photograph, resized to the file's input size."""
    size = model.interface.input_size
    return photo if size is None else cv2.resize(photo, (size[1], size[0]), interpolation=cv2.INTER_AREA)


@torch.inference_mode()
def _eager(
    run: LoadedRun, images: Sequence[np.ndarray], model: ExportedPredictor
) -> tuple[dict[str, Any], list[Any], list[dict[str, Any]]]:
    """PyTorch's outputs and results, computed as in evaluation."""
    interface = model.interface
    size, resize = (interface.network_size, "stretch") if interface.resizes else (None, "none")
    pairs = [prepare(image, size, resize) for image in images]
    tensor = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    metas = [meta for _, meta in pairs]
    device = next(run.task.model.parameters()).device
    outputs: dict[str, Any] = run.task.model(tensor.to(device))
    postprocess: Any = run.task.postprocess
    if interface.portable and interface.outputs == "final" and interface.kind == "detection":
        # With as many candidates as the file has. They are few: without the others it may find less, but nothing else.
        postprocess = replace(postprocess, max_candidates=interface.candidates)
    found = postprocess(outputs, metas)
    return {k: v.cpu() if isinstance(v, Tensor) else v for k, v in outputs.items()}, found, metas


def relative_difference(name: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
    """The largest difference over all photographs, relative to the standard deviation of the expected output."""
    expected = np.concatenate([np.ravel(a[name]) for a, _ in pairs]).astype(np.float64)
    actual = np.concatenate([np.ravel(b[name][: len(a[name])]) for a, b in pairs]).astype(np.float64)
    if expected.shape != actual.shape:
        return float("inf")
    return float(np.abs(expected - actual).max() / max(expected.std(), 1e-12))


def difference(kind: str, pairs: Sequence[tuple[Any, Any]], limits: Limits) -> float:
    """The share of unmatched detections or of differing pixels, or the largest difference of a probability.

    Args:
        pairs: the expected and the actual Detections, label map or Ranking of each image.
    """
    if kind == "detection":
        total = sum(len(a) + len(b) for a, b in pairs)
        matched = sum(_num_matched(a, b, limits) + _num_matched(b, a, limits) for a, b in pairs)
        return (total - matched) / total if total else 0.0
    if kind == "segmentation":
        if any(a.shape != b.shape for a, b in pairs):
            return 1.0
        return sum(int((a != b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    by_class = [[item.scores[item.labels.argsort()] for item in pair] for pair in pairs]
    return float(np.max([float((a - b).abs().max()) for a, b in by_class]))  # NaN if one is


def _num_matched(found: Any, others: Any, limits: Limits) -> int:
    """The number of detections with a match in `others`: same class, place and score."""
    if not len(found) or not len(others):
        return 0
    near = box_iou(found.boxes, others.boxes) >= limits.iou
    near |= (found.boxes[:, None] - others.boxes).abs().amax(2) <= NEAR
    near &= (found.scores[:, None] - others.scores).abs() <= limits.score
    near &= found.labels[:, None] == others.labels
    return int(near.any(1).sum())


def _agreement(pairs: Sequence[tuple[Tensor, Tensor]], num_classes: int) -> Results:
    joint = 0
    for a, b in pairs:
        both = (a < num_classes) & (b < num_classes)  # only pixels that belong to a class
        joint += np.bincount(a[both].long().numpy() * num_classes + b[both].numpy(), minlength=num_classes**2)
    table = np.asarray(joint).reshape(num_classes, num_classes)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    ious = table.diagonal()[union > 0] / union[union > 0]
    return {
        "mIoU between the label maps": float(ious.mean()) if len(ious) else None,
        "classes seen": int((table.sum(1) > 0).sum()),
    }
