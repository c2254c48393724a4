"""The detection part of a report: metrics per class, curves, sizes, and images with their boxes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...detection.analysis import ImageErrors
from ..drawing.annotate import GREY, class_colors
from ..evaluating.scores import Evaluation
from .gallery import Candidate, Gallery, choose
from .summary import Summary, confusion

# Pixels, the square root of an object's area; COCO's limits are 32 and 96.
SIZE_EDGES = (0, 8, 16, 32, 64, 96, 128, 256, 512)
MISSED = "missed"
CURVE_POINTS = 101


def describe(summary: Summary, evaluation: Evaluation) -> None:
    """Fill in everything except the pictures."""
    colors, analysis = class_colors(evaluation.labels), evaluation.analysis
    assert analysis is not None
    names = [figures.name for figures in analysis.classes]
    for figures in analysis.classes:
        summary.classes.append({
            "name": figures.name, "color": colors.get(figures.slot) or GREY,
            "AP": figures.ap, "AP50": figures.ap50, "AP75": figures.ap75,
            "AR": figures.ar, "best F1": figures.best_f1, "at score": figures.best_threshold,
            "truths": figures.num_truths, "detections": figures.num_detections,
        })  # fmt: skip
    summary.curves = {
        "precision": [_rounded(f.precision) if f.num_truths else None for f in analysis.classes],
        "f1": [_on_grid(f.thresholds, f.f1) if f.num_truths else None for f in analysis.classes],
        "threshold": float(analysis.score_threshold),
    }
    summary.confusion = confusion([*names, "background"], [*names, "background"], analysis.confusion, background=True)
    summary.errors = dict(analysis.errors)
    summary.sizes = sizes(evaluation.metric.state(), analysis.images)
    if not any(figures.num_truths for figures in analysis.classes):
        summary.notes.append("The data has no ground truth, so AP cannot be computed.")
    if not any(figures.num_detections for figures in analysis.classes):
        summary.notes.append("The network detected nothing.")


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(np.maximum(np.asarray(values, float), 0), 4).tolist()


def _on_grid(thresholds: np.ndarray, f1: np.ndarray) -> list[float]:
    """F1 at thresholds 0, 0.01 ... 1, interpolated from the measured thresholds."""
    thresholds, f1 = np.asarray(thresholds, float), np.asarray(f1, float)
    if not len(thresholds):
        return [0.0] * CURVE_POINTS
    order = np.argsort(thresholds, kind="stable")
    return _rounded(np.interp(np.linspace(0, 1, CURVE_POINTS), thresholds[order], f1[order]))


def sizes(images: Mapping[Any, Any], errors: Mapping[Any, ImageErrors]) -> dict[str, Any]:
    """The number of objects of each size, and how many of them were found; crowds are not counted."""
    truths, found = np.zeros(len(SIZE_EDGES), int), np.zeros(len(SIZE_EDGES), int)
    for image_id, (_, truth) in images.items():
        real = ~np.asarray(truth["crowd"], bool)
        bins = np.searchsorted(SIZE_EDGES, np.sqrt(truth["area"]), side="right") - 1
        missed = np.zeros(len(real), bool)
        missed[list(errors[image_id].missed)] = True
        np.add.at(truths, bins[real], 1)
        np.add.at(found, bins[real & ~missed], 1)
    return {"edges": list(SIZE_EDGES), "truths": truths.tolist(), "found": found.tolist()}


# ---- pictures --------------------------------------------------------------------------------------------


def pictures(summary: Summary, evaluation: Evaluation, gallery: Gallery) -> None:
    """Add the best and worst images: ground truth and detections above the threshold, each with its kind of error."""
    images, analysis = evaluation.metric.state(), evaluation.analysis
    assert analysis is not None
    names = {f.slot: number for number, f in enumerate(analysis.classes)}
    chosen = choose((_candidate(i, images[i], errors) for i, errors in analysis.images.items()), gallery.count)
    for candidate, sample, entry in gallery.photos(chosen):
        errors = analysis.images[candidate.image_id]
        found, truth = images[errors.image_id]
        missed = set(errors.missed)
        if file := Path(sample.path).name:
            entry["id"] = f"{file} (id {candidate.image_id})"
        entry["truth"] = [
            {"box": box, "class": names.get(slot), "kind": "crowd" if crowd else MISSED if i in missed else "correct"}
            for i, (box, slot, crowd) in enumerate(
                zip(truth["boxes_xywh"].tolist(), truth["labels"].tolist(), truth["crowd"].tolist(), strict=True)
            )
        ]
        entry["found"] = [
            {
                "box": found["boxes_xywh"][i].tolist(), "class": names.get(int(found["labels"][i])), "kind": kind,
                "score": float(found["scores"][i]),
            }
            for i, kind in zip(errors.detections, errors.kinds, strict=True)
        ]  # fmt: skip
        summary.gallery.append(entry)


def _candidate(image_id: Any, arrays: Any, errors: ImageErrors) -> Candidate:
    """An image's score is its F1; an image with neither ground truth nor detections is perfect."""
    found, truth = arrays
    correct = errors.kinds.count("correct")
    wrong = sum(kind not in ("correct", "ignored") for kind in errors.kinds)
    total = 2 * correct + wrong + len(errors.missed)
    slots = {int(slot) for slot in truth["labels"]} | {int(found["labels"][i]) for i in errors.detections}
    kinds = {kind for kind in errors.kinds if kind != "correct"} | ({MISSED} if errors.missed else set())
    tags = frozenset({f"class {slot}" for slot in slots} | kinds)
    score = 2 * correct / total if total else 1.0
    return Candidate(image_id, score, weight=total - correct if score < 1 else correct, tags=tags)
