"""What a detector gets wrong: figures of each class, confusion, and the kinds of error. (Stand-in, to be replaced.)"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .metric import CocoMetric

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class ClassFigures:
    """One class; -1 where it has no truth."""

    name: str
    slot: int
    num_truths: int
    num_detections: int
    ap: float
    ap50: float
    ap75: float
    ar: float
    recall: np.ndarray
    precision: np.ndarray
    thresholds: np.ndarray
    f1: np.ndarray
    best_threshold: float
    best_f1: float


@dataclass(frozen=True)
class ImageErrors:
    """One image, at IoU 0.5 and the score threshold."""

    image_id: Any
    kinds: list[str]
    detections: list[int]
    missed: list[int]


@dataclass(frozen=True)
class DetectionAnalysis:
    """All of it."""

    classes: list[ClassFigures]
    confusion: np.ndarray
    errors: dict[str, float]
    images: dict[Any, ImageErrors]
    score_threshold: float


def analyse(metric: CocoMetric, *, score_threshold: float | None = None) -> DetectionAnalysis:
    evaluation = metric._evaluate().eval
    precision, recall = evaluation["precision"], evaluation["recall"]
    slots = list(metric.names)
    hits = _hits(metric)
    grid = np.linspace(0, 1, 101)
    total, counts = sum(h[2] for h in hits.values()), np.zeros((2, 101))
    classes = []
    for k, (slot, name) in enumerate(metric.names.items()):
        scores, right, truths = hits[slot]
        tp = np.array([(right & (scores >= t)).sum() for t in grid])
        n = np.array([(scores >= t).sum() for t in grid])
        counts += (tp, n)
        f1 = 2 * tp / np.maximum(n + truths, 1)
        mean = [_mean(precision[ts, :, k, 0, 2]) for ts in (slice(None), [0], [5])]
        classes.append(ClassFigures(
            name, slot, truths, len(scores), mean[0], mean[1], mean[2], _mean(recall[:, k, 0, 2]), grid,
            precision[0, :, k, 0, 2], grid, f1, float(grid[f1.argmax()]), float(f1.max()) if truths else -1.0,
        ))  # fmt: skip
    if score_threshold is None:
        score_threshold = float(grid[(2 * counts[0] / np.maximum(counts[1] + total, 1)).argmax()]) if total else 0.5
    confusion = np.zeros((len(slots) + 1, len(slots) + 1), np.int64)
    images = {i: _image(i, *arrays, slots, score_threshold, confusion) for i, arrays in metric.state().items()}
    every = [kind for image in images.values() for kind in image.kinds]
    wrong = {kind: every.count(kind) for kind in KINDS} | {"missed": sum(len(i.missed) for i in images.values())}
    errors = {kind: 0.3 * n / max(1, sum(wrong.values())) for kind, n in wrong.items()}
    return DetectionAnalysis(classes, confusion, errors, images, score_threshold)


def _mean(values: np.ndarray) -> float:
    return float(values[values > -1].mean()) if (values > -1).any() else -1.0


def _hits(metric: CocoMetric) -> dict[int, tuple[np.ndarray, np.ndarray, int]]:
    rows: dict[int, list] = {slot: [] for slot in metric.names}
    truths = dict.fromkeys(metric.names, 0)
    for found, truth in metric.state().values():
        real = ~truth["crowd"].astype(bool)
        for slot in metric.names:
            own, theirs = found["labels"] == slot, (truth["labels"] == slot) & real
            truths[slot] += int(theirs.sum())
            ious, taken = _ious(found["boxes_xywh"][own], truth["boxes_xywh"][theirs]), set()
            for i, score in enumerate(found["scores"][own]):
                free = [j for j in range(ious.shape[1]) if j not in taken and ious[i, j] >= 0.5]
                best = max(free, key=lambda j: ious[i, j], default=None)
                taken |= set() if best is None else {best}
                rows[slot].append((score, best is not None))
    return {s: (np.array([r[0] for r in rows[s]]), np.array([r[1] for r in rows[s]], bool), truths[s]) for s in rows}


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    return both / np.maximum(a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - both, 1e-9)


def _image(image_id: Any, found: Any, truth: Any, slots: list[int], threshold: float, confusion: Any) -> ImageErrors:
    kept = np.flatnonzero(found["scores"] >= threshold)
    kept = kept[np.argsort(-found["scores"][kept], kind="stable")]
    real = np.flatnonzero(~truth["crowd"].astype(bool))
    ious = _ious(found["boxes_xywh"][kept], truth["boxes_xywh"][real])
    taken: set[int] = set()
    kinds = []
    for i, d in enumerate(kept):
        same = truth["labels"][real] == found["labels"][d]
        column = slots.index(int(found["labels"][d]))
        free = [j for j in range(len(real)) if same[j] and ious[i, j] >= 0.5 and j not in taken]
        best, best_same = ious[i].max(initial=0), ious[i][same].max(initial=0)
        if free:
            j = max(free, key=lambda j: ious[i, j])
            taken.add(j)
            kinds.append("correct")
            confusion[slots.index(int(truth["labels"][real][j])), column] += 1
            continue
        kinds.append(
            "duplicate" if best_same >= 0.5 else "classification" if best >= 0.5 else "localisation" if best_same >= 0.1
            else "both" if best >= 0.1 else "background"
        )  # fmt: skip
        row = slots.index(int(truth["labels"][real][ious[i].argmax()])) if kinds[-1] == "classification" else -1
        confusion[row, column] += 1
    missed = [int(real[j]) for j in range(len(real)) if j not in taken]
    for j in missed:
        confusion[slots.index(int(truth["labels"][j])), -1] += 1
    return ImageErrors(image_id, kinds, kept.tolist(), missed)
