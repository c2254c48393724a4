"""Boxes against a detector's anchors: which boxes training can match at all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.annotations.faults import Fault
from ...datasets.checking.statistics import Statistics
from ...detection.anchors import AnchorLayout, make_anchors
from ...detection.boxes import iou
from ...words import counted

_CHUNK = 1024  # boxes at a time
_MIN_BOXES, _MAX_SHARE = 10, 0.8  # report a class with this many boxes, if more than this share match no anchor


@dataclass(frozen=True)
class Anchors:
    """A detector's anchors at one input size."""

    input_size: tuple[int, int]  # h, w
    threshold: float  # minimum IoU at which training matches an anchor
    boxes: Tensor  # [A, 4] xyxy pixels
    levels: Tensor  # int64 [A], the feature map of each anchor
    sizes: tuple[tuple[int, int], ...]  # (h, w) of the feature maps
    shapes: tuple[tuple[tuple[float, float], ...], ...]  # (width, height) in pixels of a cell's anchors, by map


def anchors_of(network: Any, input_size: tuple[int, int], *, threshold: float) -> Anchors | None:
    """The anchors of a network with `features` and an `anchor_layout`; None for other networks."""
    layout = getattr(network, "anchor_layout", None)
    if not isinstance(layout, AnchorLayout):
        return None
    network = network.to("meta").eval()  # sizes only: nothing is computed
    maps = network.features(torch.zeros(1, 3, *input_size, dtype=torch.uint8, device="meta"))
    sizes = tuple((feature.shape[2], feature.shape[3]) for feature in maps)
    numbers = [h * w * count for (h, w), count in zip(sizes, layout.num_anchors, strict=True)]
    levels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(numbers))
    unit = input_size[::-1] if layout.follow_sides else (min(input_size),) * 2
    shapes = tuple(tuple((w * unit[0], h * unit[1]) for w, h in cell) for cell in layout.shapes())
    return Anchors(input_size, threshold, make_anchors(layout, sizes, input_size), levels, sizes, shapes)


@dataclass(frozen=True)
class Matches:
    """For each box, the overlap with its best anchor, and that anchor's feature map."""

    overlaps: np.ndarray  # float32 [M]
    levels: np.ndarray  # int64 [M]
    threshold: float

    @property
    def reached(self) -> np.ndarray:
        """Whether an anchor overlaps the box enough, bool [M]; in training, the others only match their best anchor."""
        return self.overlaps >= self.threshold


def match(boxes: np.ndarray, anchors: Anchors) -> Matches:
    """Match boxes [M, 4] xyxy, in input pixels, against all anchors."""
    overlaps, levels = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    for start in range(0, len(boxes), _CHUNK):
        best, index = iou(torch.from_numpy(boxes[start : start + _CHUNK]).float(), anchors.boxes).max(1)
        overlaps.append(best.numpy())
        levels.append(anchors.levels[index].numpy())
    return Matches(np.concatenate(overlaps), np.concatenate(levels), anchors.threshold)


def unreached(statistics: Statistics, matches: Matches) -> dict[str, tuple[int, int]]:
    """Class -> (boxes that match no anchor, boxes), for the classes that have boxes."""
    total = np.bincount(statistics.slots, minlength=1)
    missed = np.bincount(statistics.slots[~matches.reached], minlength=len(total))
    names = statistics.labels.names
    return {names[slot]: (int(missed[slot]), int(total[slot])) for slot in names if slot < len(total) and total[slot]}


def check_anchors(classes: Mapping[str, tuple[int, int]], anchors: Anchors, source: str) -> Iterator[Fault]:
    """Report classes most of whose boxes match no anchor."""
    height, width = anchors.input_size
    for name, (missed, total) in classes.items():
        if total >= _MIN_BOXES and missed > _MAX_SHARE * total:
            message = (
                f"class {name}: {missed:,} of {counted(total, 'box')} ({100 * missed / total:.0f} %) match no anchor "
                f"at IoU {anchors.threshold:g} and {width}x{height} (width x height): hard to learn, because each only "
                "gets its best anchor"
            )
            yield Fault("no_anchor", source, message)
