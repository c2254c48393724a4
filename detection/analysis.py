"""Analysis behind the metrics: per-class results, confusions, and the cost of each kind of error.

Kinds and costs follow TIDE (Bolya et al. 2020, "A General Toolbox for Identifying Object Detection Errors") and its
published code: foreground is an IoU of 0.5, background below 0.1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..absent import Results, known
from .accumulation import RECALLS
from .errors import average_precision_lost, kinds_of_detections, unfound
from .matching_coco import Bools, ClassMatches, Floats, Ints, Matches
from .metric import CocoMetric
from .resampling import weighted_precision

_AT_75 = 5  # of COCO's IoU thresholds
_CURVE = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassFigures:
    """One class; metrics are None, and `precision` is NaN, if it has no annotation (crowds do not count).

    `precision` is COCO's interpolated precision at `recall`, IoU 0.5. `f1` is F1 at IoU 0.5 of the detections that
    score `thresholds` or more; `best_threshold` is exact and not from that grid, None if no detection is ever correct.
    """

    name: str
    slot: int
    num_truths: int
    num_detections: int  # at most `max_detections` per image
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar: float | None
    recall: Floats
    precision: Floats
    thresholds: Floats
    f1: Floats
    best_threshold: float | None
    best_f1: float | None


@dataclass(frozen=True)
class ImageErrors:
    """One image's detections above the score threshold, by descending score, and the missed annotations."""

    image_id: int | str
    kinds: list[str]  # correct, classification, localisation, both, duplicate, background, or ignored (in a crowd)
    detections: Ints  # positions in the image's own arrays
    missed: list[int]  # positions in the image's own annotations; crowds are never missed


@dataclass(frozen=True)
class DetectionAnalysis:
    """`confusion` int64 [K + 1, K + 1]: rows ground truth, columns detections, the last of both background; IoU 0.5.

    A row sums to the annotations of its class, a column to the detections of its class outside crowds.
    `errors` maps a kind to the AP50 (0..1) gained by correcting only that kind, over all scores; None without
    annotations.
    """

    classes: list[ClassFigures]
    confusion: npt.NDArray[np.int64]
    errors: Results
    images: dict[int | str, ImageErrors]
    score_threshold: float


def analyse(metric: CocoMetric, *, score_threshold: float | None = None) -> DetectionAnalysis:
    """Analyze the images of a metric.

    Args:
        score_threshold: for confusion matrix and images; null uses the threshold of the best F1 over all classes.
    """
    matches = metric.matches()
    classes = [_class_figures(matches.of_class(slot), slot, name) for slot, name in metric.names.items()]
    if score_threshold is None:
        score_threshold = _best_overall(matches)
    kinds = kinds_of_detections(matches)
    kept = matches.scores >= score_threshold
    return DetectionAnalysis(
        classes=classes,
        confusion=_confusion(matches, kinds, kept, list(metric.names)),
        errors=average_precision_lost(matches, kinds, list(metric.names)),
        images=_images(matches, kinds, kept, metric.images()),
        score_threshold=score_threshold,
    )


def _class_figures(found: ClassMatches, slot: int, name: str) -> ClassFigures:
    truths = int(found.truths.sum())
    precision = weighted_precision(found, np.ones((1, len(found.truths)), np.int64))[0]
    counted = ~found.ignored[0]
    scores, f1 = _f1_curve(found.scores[counted], found.correct[0, counted], truths)
    threshold, best = _best(scores, f1)
    grid = _CURVE if not len(scores) else np.linspace(min(0.0, scores[-1]), max(1.0, scores[0]), len(_CURVE))
    above = np.searchsorted(-scores, -grid, side="right") - 1
    curve = np.where(above >= 0, f1[above], 0.0) if len(f1) else np.zeros(len(grid))
    return ClassFigures(
        name=name, slot=slot, num_truths=truths, num_detections=len(found.image),
        ap=known(float(precision.mean())), ap50=known(float(precision[0].mean())),
        ap75=known(float(precision[_AT_75].mean())),
        ar=float((found.correct.sum(axis=1) / truths).mean()) if truths else None,
        recall=RECALLS, precision=precision[0], thresholds=grid, f1=curve, best_threshold=threshold,
        best_f1=best if truths else None,
    )  # fmt: skip


def _f1_curve(scores: Floats, correct: Bools, truths: int) -> tuple[Floats, Floats]:
    """Distinct scores, descending, and F1 of the detections with at least that score."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], correct[order].cumsum()
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    return scores[last], 2 * hits[last] / (last + 1 + truths)


def _best(scores: Floats, f1: Floats) -> tuple[float | None, float]:
    """The threshold with the best F1, the highest if several, and that F1; None if nothing is ever correct."""
    if not len(f1) or f1.max() == 0:
        return None, 0.0
    best = int(f1.argmax())
    return float(scores[best]), float(f1[best])


def _best_overall(matches: Matches) -> float:
    """The threshold of the best F1 over all classes; 0.5 if nothing is ever correct."""
    counted = ~matches.ignored[0]
    truths = int((~matches.truth_crowd).sum())
    threshold, _ = _best(*_f1_curve(matches.scores[counted], matches.found[0, counted] >= 0, truths))
    return 0.5 if threshold is None else threshold


def _confusion(matches: Matches, kinds: npt.NDArray[np.str_], kept: Bools, slots: list[int]) -> npt.NDArray[np.int64]:
    background = len(slots)
    row_of = {slot: row for row, slot in enumerate(slots)}
    rows = np.array([row_of[label] for label in matches.truth_labels.tolist()], np.int64)
    confusion = np.zeros((background + 1, background + 1), np.int64)
    found, left = matches.found[0], unfound(matches, kept)  # annotations found by their own class are not confused
    for d in np.flatnonzero(kept & (kinds != "ignored")).tolist():
        row, truth = background, int(matches.other[d])
        if kinds[d] == "correct":
            row = rows[found[d]]
        elif kinds[d] == "classification" and left[truth]:
            row, left[truth] = rows[truth], False
        confusion[row, row_of[int(matches.labels[d])]] += 1
    confusion[:-1, background] += np.bincount(rows[left], minlength=background)
    return confusion


def _images(
    matches: Matches, kinds: npt.NDArray[np.str_], kept: Bools, image_ids: list[int | str]
) -> dict[int | str, ImageErrors]:
    missed = unfound(matches, kept)
    numbers = np.arange(len(image_ids) + 1)
    starts, truth_starts = np.searchsorted(matches.image, numbers), np.searchsorted(matches.truth_image, numbers)
    images = {}
    for i, image_id in enumerate(image_ids):
        own = np.arange(starts[i], starts[i + 1])
        own = own[kept[own]]
        left = np.flatnonzero(missed[truth_starts[i] : truth_starts[i + 1]]).tolist()
        images[image_id] = ImageErrors(image_id, kinds[own].tolist(), matches.position[own], left)
    return images
