"""Whether a split has anything to learn from, or to compare with: asked before training, of a sample of the masks."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...words import counted, listed
from ..annotations.boxes import BoxSource
from ..annotations.sample import evenly
from ..image_folder import ImageFolder
from ..labels import IGNORE
from ..mask_folder import MaskPairs

_MOST = 200  # masks that are decoded
_FILLS = 0.01  # a value with this share of all pixels is no border around objects
_SHOWN = 8  # values that a message names


@dataclass(frozen=True)
class Truth:
    """What a split holds: boxes, pixels of some of its masks, or images of a class."""

    found: np.ndarray  # int64, by slot: what training learns from
    why: str  # where all else went, for messages
    looked_at: str  # "12 images", "200 of 2,975 masks"
    unlisted: float = 0.0  # the share of pixels that are ignored although the user did not list their value

    def absent(self, names: dict[int, str]) -> list[str]:
        """The classes that do not occur."""
        return [name for slot, name in names.items() if not self.found[slot]]


def truth_of(source: Any) -> Truth | None:
    """What a source of boxes, masks or classes holds; None for others, which are generated."""
    source = getattr(source, "source", source)  # a few images of it
    if isinstance(source, BoxSource):
        return _of_boxes(source)
    if isinstance(source, ImageFolder):
        return Truth(np.bincount(source.slots, minlength=source.labels.num_classes), "", counted(len(source), "image"))
    return _of_masks(source) if isinstance(source, MaskPairs) else None


def _of_boxes(source: BoxSource) -> Truth:
    slots, crowd, usable = source.all_boxes()
    why = [
        f"{crowd.sum():,} crowd or difficult, which training ignores" if crowd.any() else "",
        f"{(~usable).sum():,} without an area inside their image" if not usable.all() else "",
    ]
    told = " and ".join(part for part in why if part)
    told = f"of {counted(len(slots), 'annotation')}, {told}" if told else "there are no annotations"
    return Truth(_counts(slots[usable & ~crowd], source), told, counted(len(source), "image"))


def _of_masks(source: MaskPairs) -> Truth:
    found, total, unlisted, values = np.zeros(256, np.int64), 0, 0, np.zeros(256, np.int64)
    chosen = [i for i in evenly(len(source), _MOST) if source.mask_paths[i]]
    problem: Exception | None = None
    for i in chosen:
        try:
            stored = source.stored_mask(i)
        except (OSError, ValueError) as error:  # training names it, or skips it
            problem = problem or error
            continue
        values += np.bincount(stored.ravel(), minlength=256)
        found += np.bincount(cv2.LUT(stored, source.table).ravel(), minlength=256)
        unlisted += sum(int((stored == value).sum()) for value in source.unlisted)
        total += stored.size
    if problem and not total:
        raise problem
    held = ", ".join(map(str, np.flatnonzero(values)[:_SHOWN]))
    looked_at = (
        counted(len(source), "mask") if len(chosen) == len(source) else f"{len(chosen)} of {len(source):,} masks"
    )
    counts = found[: source.labels.num_classes]
    why = f"they hold the values {held}, which are ignored or belong to no class"
    return Truth(counts, why, looked_at, unlisted / max(total, 1))


def _counts(slots: np.ndarray, source: BoxSource) -> np.ndarray:
    return np.bincount(slots, minlength=source.labels.num_classes + 1)


def check_learnable(source: Any, *, task: str, name: str = "data.train") -> list[str]:
    """Warnings about what training will learn from.

    Raises:
        ValueError: there is nothing to learn: no box, no labeled pixel, or a segmenter with one class to choose from.
    """
    names = source.labels.names
    if task == "segmentation" and source.labels.num_classes == 1:
        only = next(iter(names.values()), "object")
        raise ValueError(
            f"{name} has one class ({only}): a segmenter that can choose only one has nothing to learn. Remedy: list "
            f"the background as a class, too, such as data.classes=[background,{only}]"
        )
    truth = truth_of(source)
    if truth is None:
        return []
    if not truth.found.any():
        what = "box" if task == "detection" else "pixel with a class"
        raise ValueError(
            f"{name} has nothing to learn from: no {what} in {truth.looked_at}; {truth.why}. Remedy: check the "
            f"annotations with pocketvision check-data{_key(task)}"
        )
    return _judge_masks(truth, names, name) if task == "segmentation" else []


def _key(task: str) -> str:
    return "" if task == "detection" else ", and data.classes and data.ignore_ids against these values"


def _judge_masks(truth: Truth, names: dict[int, str], name: str) -> list[str]:
    present, filled = np.flatnonzero(truth.found), truth.unlisted >= _FILLS
    ignored = f"{truth.unlisted:.0%} of the pixels hold {IGNORE}, which is ignored"
    if len(present) == 1 and len(names) > 1:
        told = f"{name}: in {truth.looked_at}, all labeled pixels are {names[int(present[0])]!r}"
        if filled:
            raise ValueError(
                f"{told}, and {ignored}. Black-and-white masks? Remedy: store class numbers, or give the stored values "
                "in a class list (data.classes=classes.csv with the columns name,id), or set "
                f"data.ignore_ids=[{IGNORE}]"
            )
        return [told]
    if filled and (absent := truth.absent(names)):
        return [f"{name}: no pixel of {listed(absent)} in {truth.looked_at}, and {ignored}"]
    return []


def absent_in_validation(source: Any, *, name: str = "data.val") -> list[str]:
    """Warnings about what an evaluation cannot compare with."""
    truth = truth_of(source)
    if truth is None:
        return []
    if not truth.found.any():
        told = f"{name} has nothing to compare with in {truth.looked_at}: {truth.why}"
        return [f"{told}. Its metrics are absent, and best.pt follows the last checkpoint"]
    absent = truth.absent(source.labels.names)
    return [f"{name}: no example of {listed(absent)} in {truth.looked_at}"] if absent else []


def shared_images(train: Any, val: Any) -> list[str]:
    """A warning about validation images that are training images, too."""
    files = set(_paths(val))
    both = len(files.intersection(_paths(train)))
    if not both:
        return []
    share = f"all {counted(both, 'image')}" if both == len(files) else f"{both:,} of {counted(len(files), 'image')}"
    return [f"data.val: {share} also in data.train: the metrics will be too optimistic"]


def _paths(source: Any) -> Iterator[str]:
    source = getattr(source, "source", source)
    if isinstance(source, BoxSource):
        yield from (os.path.join(source.images, name) for name in source.file_names)
    elif isinstance(source, MaskPairs):
        yield from source.image_paths
