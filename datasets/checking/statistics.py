"""Class frequencies of a split, and the sizes of its boxes in the network's input."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..annotations.sample import Sample
from ..labels import LabelMap
from .boxes import input_scale
from .classes import ClassCounts
from .contents import Contents

_NO_BOXES = np.zeros((0, 4))
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Statistics:
    """Statistics of a split, or of those of its images that were examined. Crowd regions do not count."""

    labels: LabelMap
    counts: ClassCounts
    num_images: int
    boxes: np.ndarray  # float64 [M, 4] xyxy, clipped to the image, in pixels of the network's input
    slots: np.ndarray  # int64 [M]
    boxes_an_image: np.ndarray  # int64 [N]

    @property
    def kind(self) -> str:
        return {"boxes": "detection", "pixels": "segmentation", "images": "classification"}[self.counts.what]


def of_contents(
    contents: Contents, counts: ClassCounts, input_size: tuple[int, int], *, letterbox: bool = False
) -> Statistics:
    """Statistics of a whole split that was read for a check."""
    table = contents.boxes
    if table is None:
        return Statistics(contents.labels, counts, len(contents.pictures), _NO_BOXES, _NONE, _NONE)
    with np.errstate(all="ignore"):  # numbers in files may be arbitrarily large
        inside = table.clipped()
    kept = ~table.crowd & (inside[:, 2:] > inside[:, :2]).all(1)
    boxes = inside[kept] * np.tile(input_scale(table, input_size, letterbox=letterbox), 2)[table.image[kept]]
    an_image = np.bincount(table.image[~table.crowd], minlength=len(table.image_ids))
    return Statistics(contents.labels, counts, len(contents.pictures), boxes, table.slots[kept], an_image)


def of_samples(
    samples: Iterable[Sample], labels: LabelMap, kind: str, input_size: tuple[int, int], *, letterbox: bool = False
) -> Statistics:
    """Statistics of any source's samples; `kind` is detection, segmentation or classification."""
    examples, images = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    boxes, slots, an_image = [_NO_BOXES], [_NONE], []
    for sample in samples:
        if sample.mask is not None:
            found = np.bincount(sample.mask.ravel(), minlength=256)
        elif sample.label is not None:
            found = np.bincount([sample.label])
        elif sample.boxes is not None and sample.labels is not None:
            found = np.bincount(sample.labels, minlength=1)
            scale = np.array(input_size[::-1]) / sample.image.shape[1::-1]
            boxes.append(sample.boxes * np.tile(np.full(2, scale.min()) if letterbox else scale, 2))
            slots.append(sample.labels)
        else:
            continue
        an_image.append(int(found.sum()))
        examples[: len(found)] += found
        images[: len(found)] += found > 0
    known = {slot: int(examples[slot]) for slot in labels.names}
    what = {"detection": "boxes", "segmentation": "pixels", "classification": "images"}[kind]
    counts = ClassCounts(what, known, {slot: int(images[slot]) for slot in labels.names})
    return Statistics(
        labels, counts, len(an_image), np.concatenate(boxes), np.concatenate(slots), np.array(an_image, np.int64)
    )


def class_names(splits: Mapping[str, Statistics]) -> dict[int, str]:
    """The classes of all splits, by slot."""
    return {slot: name for split in splits.values() for slot, name in split.labels.names.items()}
