"""Matches detections to annotations by pycocotools' rules, for all classes and thresholds at once.

The metrics come from pycocotools itself (`accumulation`); this is for what needs the matches: analysis and
resampling. Only for areas of all sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask

from .accumulation import IOU_THRESHOLDS, Arrays, Image

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassMatches:
    """One class, best score first: `image [D]`, `scores [D]`, `correct` and `ignored [T, D]`; `truths [I]` counted."""

    image: Ints
    scores: Floats
    correct: Bools
    ignored: Bools
    truths: Ints


@dataclass(frozen=True)
class Matches:
    """Detections [D] image by image, by descending score within an image, the best `max_detections` of each class.

    Annotations [G] image by image, crowds included. `found[t, d]` is the annotation that detection d found at threshold
    t, or -1; `ignored[t, d]` means that d lies in a crowd. `same` and `other` are the annotations (no crowds) of the
    detection's own class and of the other classes that overlap it most, -1 where there are none, with their IoU.
    """

    image: Ints
    position: Ints  # in the image's own arrays
    labels: Ints
    scores: Floats
    found: npt.NDArray[np.int32]
    ignored: Bools
    same: Ints
    same_iou: Floats
    other: Ints
    other_iou: Floats
    truth_image: Ints
    truth_labels: Ints
    truth_crowd: Bools
    num_images: int

    def of_class(self, slot: int) -> ClassMatches:
        """One class in pycocotools' order: by descending score, ties in the order of the images."""
        own = np.flatnonzero(self.labels == slot)
        own = own[np.argsort(-self.scores[own], kind="stable")]
        counted = (self.truth_labels == slot) & ~self.truth_crowd
        truths = np.bincount(self.truth_image[counted], minlength=self.num_images)
        correct = self.found[:, own] >= 0
        return ClassMatches(self.image[own], self.scores[own], correct, self.ignored[:, own], truths)


def match(images: Sequence[Image], slots: Sequence[int], *, max_detections: int) -> Matches:
    """Match every image; detections of slots that are not in `slots` are dropped."""
    nothing = {"boxes_xywh": np.zeros((0, 4)), "labels": np.zeros(0, np.int64), "scores": np.zeros(0)}
    no_image: Image = (nothing, nothing | {"crowd": np.zeros(0, bool)})  # so that there is always something to join
    parts: list[dict[str, npt.NDArray[Any]]] = []
    start = 0
    for number, (detections, truth) in enumerate([*images, no_image]):
        part = _match_image(detections, truth, slots, max_detections)
        for key in ("found", "same", "other"):
            part[key] = np.where(part[key] >= 0, part[key] + start, -1)
        start += len(truth["labels"])
        part |= {"image": np.full(len(part["labels"]), number), "truth_image": np.full(len(truth["labels"]), number)}
        parts.append(part)
    joined = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in parts[0]}
    return Matches(**joined, num_images=len(images))


def _match_image(detections: Arrays, truth: Arrays, slots: Sequence[int], most: int) -> dict[str, npt.NDArray[Any]]:
    kept = ranked(detections, slots, most)
    labels, crowd = detections["labels"][kept], truth["crowd"].astype(bool)
    ious = _ious(detections["boxes_xywh"][kept], truth)
    own = labels[:, None] == truth["labels"]
    found, ignored = _greedy(np.where(own, ious, 0.0), crowd)
    same, same_iou = _most(np.where(own & ~crowd, ious, -1.0))
    other, other_iou = _most(np.where(~own & ~crowd, ious, -1.0))
    return {
        "position": kept, "labels": labels, "scores": detections["scores"][kept], "found": found, "ignored": ignored,
        "same": same, "same_iou": same_iou, "other": other, "other_iou": other_iou,
        "truth_labels": truth["labels"], "truth_crowd": crowd,
    }  # fmt: skip


def ranked(detections: Arrays, slots: Sequence[int], most: int) -> Ints:
    """Positions by descending score, at most this many per class."""
    labels = detections["labels"]
    order = np.argsort(-detections["scores"], kind="stable")
    order = order[np.isin(labels[order], slots)]
    if len(order) <= most:
        return order
    by_class = np.argsort(labels[order], kind="stable")
    ordered = labels[order][by_class]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[np.sort(by_class[rank < most])]


def _ious(boxes_xywh: Floats, truth: Arrays) -> Floats:
    """[D, G], by pycocotools' routine, for the same rounding. For a crowd: the fraction of the detection inside."""
    if not len(boxes_xywh) or not len(truth["labels"]):
        return np.zeros((len(boxes_xywh), len(truth["labels"])))
    truths = np.ascontiguousarray(truth["boxes_xywh"], dtype=np.float64)
    found = np.ascontiguousarray(boxes_xywh, dtype=np.float64)
    return np.asarray(mask.iou(found, truths, truth["crowd"].astype(np.uint8).tolist()))  # pyright: ignore


def _greedy(ious: Floats, crowd: Bools) -> tuple[npt.NDArray[np.int32], Bools]:
    """`found` and `ignored`, both [T, D]: by descending score each detection takes the best remaining annotation.

    Of annotations with equal overlap the last one is taken. A crowd matches any number of otherwise unmatched
    detections.
    """
    least = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    found = np.full((len(least), len(ious)), -1, np.int32)  # one for each detection of COCO and threshold
    ignored = np.zeros(found.shape, bool)
    free = np.broadcast_to(~crowd, (len(least), len(crowd))).copy()
    reaching = np.flatnonzero((ious >= least[0]).any(axis=1))
    for d in reaching.tolist():
        row = ious[d]
        enough = row >= least[:, None]
        open_to_it = np.where(enough & free, row, -1.0)
        best = len(row) - 1 - open_to_it[:, ::-1].argmax(axis=1)
        hit = np.flatnonzero(open_to_it[np.arange(len(least)), best] >= 0)
        found[hit, d] = best[hit]
        free[hit, best[hit]] = False
        ignored[:, d] = (enough & crowd).any(axis=1)
    return found, ignored & (found < 0)


def _most(ious: Floats) -> tuple[Ints, Floats]:
    """Each row's column with the largest value, and the value; only if it is not negative."""
    if not ious.shape[1]:
        return np.full(len(ious), -1), np.full(len(ious), 0.0)
    best = ious.argmax(axis=1)
    value = ious[np.arange(len(ious)), best]
    return np.where(value >= 0, best, -1), np.maximum(value, 0.0)
