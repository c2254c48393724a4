"""Kinds of errors and their costs, as defined by TIDE (Bolya et al. 2020)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..absent import Results
from .matching_coco import Bools, Ints, Matches
from .resampling import weighted_precision

# Keys of every summary.json that was written: their spelling stays.
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_FOREGROUND, _BACKGROUND = 0.5, 0.1  # IoU

Kinds = npt.NDArray[np.str_]


def kinds_of_detections(matches: Matches) -> Kinds:
    """[D]: `correct`, `ignored` or the first matching kind of TIDE, in the order of its code.

    Independent of a score threshold: the annotation of a duplicate was matched by a higher score.
    """
    nothing = np.maximum(matches.same_iou, matches.other_iou) < _BACKGROUND
    return np.select(
        [
            matches.found[0] >= 0,
            matches.ignored[0],
            nothing,
            (matches.same_iou >= _BACKGROUND) & (matches.same_iou < _FOREGROUND),
            matches.other_iou >= _FOREGROUND,
            matches.same_iou >= _FOREGROUND,
        ],
        ["correct", "ignored", "background", "localisation", "classification", "duplicate"],
        default="both",
    )


def unfound(matches: Matches, kept: Bools) -> Bools:
    """[G]: annotations that no detection of `kept` matches at IoU 0.5, except crowds."""
    found = matches.found[0]
    left = ~matches.truth_crowd
    left[found[kept & (found >= 0)]] = False
    return left


def average_precision_lost(matches: Matches, kinds: Kinds, slots: Sequence[int]) -> Results:
    """For each kind, the AP50 gained by correcting all errors of that kind and no others.

    A wrong class or box is corrected if its annotation was missed and no higher-scoring error of the kind claims it,
    and deleted otherwise; duplicates, background and both are deleted; missed annotations that no wrong class or box
    claims are deleted. A class without remaining annotations leaves the mean, whereas TIDE's code counts 0.
    """
    free = unfound(matches, np.ones(len(kinds), bool))
    before = _mean(matches, slots)
    if before is None:
        return dict.fromkeys(KINDS)
    wrong_class, wrong_box = kinds == "classification", kinds == "localisation"
    corrected = {
        "classification": _corrected(matches, wrong_class, matches.other, free),
        "localisation": _corrected(matches, wrong_box, matches.same, free),
        **{kind: _without(matches, kinds == kind) for kind in ("both", "duplicate", "background")},
    }
    pointed_at = np.zeros(len(free), bool)
    pointed_at[matches.other[wrong_class]] = pointed_at[matches.same[wrong_box]] = True
    missed = free & ~pointed_at
    corrected["missed"] = replace(matches, truth_crowd=matches.truth_crowd | missed)
    after = {kind: _mean(changed, slots) for kind, changed in corrected.items()}
    return {kind: (1.0 if mean is None else mean) - before for kind, mean in after.items()}


def _corrected(matches: Matches, wrong: Bools, target: Ints, free: Bools) -> Matches:
    """Each free annotation is matched by its best-scoring error, in its class; other errors are dropped."""
    candidates = np.flatnonzero(wrong & (target >= 0))
    candidates = candidates[free[target[candidates]]]
    candidates = candidates[np.argsort(-matches.scores[candidates], kind="stable")]
    _, first = np.unique(target[candidates], return_index=True)
    winners = candidates[first]
    found, labels = matches.found.copy(), matches.labels.copy()
    found[0, winners] = target[winners]
    labels[winners] = matches.truth_labels[target[winners]]
    gone = wrong.copy()
    gone[winners] = False
    return _without(replace(matches, found=found, labels=labels), gone)


def _without(matches: Matches, gone: Bools) -> Matches:
    """Ignored detections have the same effect as deleted ones."""
    return replace(matches, ignored=matches.ignored | gone)


def _mean(matches: Matches, slots: Sequence[int]) -> float | None:
    """AP50 over the classes with annotations; None if there are none."""
    ones = np.ones((1, matches.num_images), np.int64)
    known: list[float] = []
    for slot in slots:
        own = matches.of_class(slot)
        if own.truths.any():
            own = replace(own, correct=own.correct[:1], ignored=own.ignored[:1])
            known.append(float(weighted_precision(own, ones).mean()))
    return float(np.mean(known)) if known else None
