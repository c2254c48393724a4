"""Mean intersection over union by Cityscapes' rules."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..absent import Results
from ..backbones.image_metric import ImageId, ImageMetric, Weights, class_list
from ..words import counted
from .instances import InstanceScores
from .postprocess import without_padding

_HISTOGRAM_PIXELS = 1 << 24  # OpenCV's histograms are float32, which counts exactly up to here


class ImageCounts(NamedTuple):
    """An image's contribution: non-zero cells of its confusion matrix (flat indices, pixel counts), and its instances.

    An image shows few of the classes, so this is small, unlike dense matrices of every image (150 classes:
    180 KB per image).
    """

    indices: np.ndarray
    counts: np.ndarray
    instances: np.ndarray | None = None  # see InstanceScores.weigh; None if the ground truth has no instances


class MeanIoU(ImageMetric[ImageCounts]):
    """Confusion matrix over the labels' original pixels, kept per image so that no image counts twice.

    Rules of Cityscapes' evaluation (cityscapesScripts, evalPixelLevelSemanticLabeling): pixels whose label is
    `ignore_index` don't count; a class without ground truth that was predicted somewhere has IoU 0; that of one without
    either is None, and not part of the mean; a prediction outside the classes is a miss of the true class, but not a
    false positive. `categories` maps a name to its slots; confusions within a category are not errors of the category.

    `instances` maps slots to (class id in instance files, average instance size in pixels); if the ground truth of
    every image has instances, there is iIoU, in which each counts as if it had average size. `unscored` maps predicted
    values outside the classes to the category whose instances they still match (Cityscapes: a car predicted
    as a caravan is found, as a vehicle).
    """

    primary = "mIoU"

    def __init__(
        self,
        names: Mapping[int, str],
        *,
        categories: Mapping[str, Sequence[int]] | None = None,
        instances: Mapping[int, tuple[int, float]] | None = None,
        unscored: Mapping[int, str] | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.names = class_list(names)
        for name, slots in (categories or {}).items():
            if unknown := sorted(set(slots) - set(names)):
                raise ValueError(f"category {name!r} has the class indices {unknown}; expected 0..{len(names) - 1}")
        if wrong := sorted(set(instances or {}) - set(names)):
            raise ValueError(f"instances has the class indices {wrong}; expected 0..{len(names) - 1}")
        for value, name in (unscored or {}).items():
            if not len(names) <= value <= 255 or value == ignore_index or name not in (categories or {}):
                raise ValueError(
                    f"unscored {{{value}: {name!r}}}: expected a value outside the classes, other than "
                    f"{ignore_index}, and a category of {sorted(categories or {})}"
                )
        self.categories = {name: list(slots) for name, slots in (categories or {}).items()}
        self.unscored = dict(unscored or {})
        self.ignore_index = ignore_index
        columns = list(enumerate(self.unscored.values(), start=len(self.names) + 1))  # see `_whole_confusion`
        extra = {name: [column for column, category in columns if category == name] for name in self.categories}
        self._scores = InstanceScores(instances, self.categories, extra) if instances else None

    def update(
        self,
        predictions: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        metas: Sequence[dict[str, Any]],
    ) -> None:
        """Add label maps [H0, W0]; ground truth is `meta["ground_truth"]["mask"]`, else the target's mask mapped back.

        `meta["ground_truth"]["instances"]` [H0, W0] may contain instance ids, class id * 1000 + a count (see
        `instances`).
        """
        for prediction, target, meta in zip(predictions, targets, metas, strict=True):
            if (image_id := meta["image_id"]) not in self._images:
                truth, ids = self._truth(target, meta), (meta.get("ground_truth") or {}).get("instances")
                self._images[image_id] = self._count(_uint8(prediction), truth, ids, image_id)

    def compute(self) -> Results:
        """The metrics, never NaN; None where there is nothing to compare.

        `mIoU`, `pixel_accuracy`, `IoU/<name>`; with categories `mIoU_category`, `category/<name>`; with instances
        `iIoU` and `iIoU_category` (means), `iIoU/<name>`, `category_iIoU/<name>`.
        """
        whole = self._whole_confusion(self._images.values())
        tables = {
            "mIoU": {f"IoU/{name}": _iou(whole, [slot]) for slot, name in enumerate(self.names)},
            "mIoU_category": {f"category/{name}": _iou(whole, slots) for name, slots in self.categories.items()},
        }
        if self._scores is not None and (weighed := self._weighed()) is not None:
            tables["iIoU"], tables["iIoU_category"] = self._scores.ious(whole, weighed, self.names)
        counted = int(whole.sum())
        results = {"mIoU": _mean(tables["mIoU"]), "pixel_accuracy": int(whole.trace()) / counted if counted else None}
        results |= {mean: _mean(ious) for mean, ious in tables.items() if ious}
        return results | {name: iou for ious in tables.values() for name, iou in ious.items()}

    def confusion(self, image: ImageId | None = None) -> np.ndarray:
        """int64 [K, K + 1]: pixels of one image, or all, by true and predicted class; the last column is outside them.

        Raises:
            KeyError: the image is unknown.
        """
        some = self._images.values() if image is None else [self._images[image]]
        whole, num_classes = self._whole_confusion(some), len(self.names)
        return np.concatenate((whole[:, :num_classes], whole[:, num_classes:].sum(axis=1, keepdims=True)), axis=1)

    def bootstrap(self, samples: int, seed: int = 0, *, weights: Weights | None = None) -> dict[str, np.ndarray]:
        """`mIoU`, `pixel_accuracy` and `IoU/<name>`, each [samples], of images drawn with replacement.

        NaN in samples without ground truth; of a class, in those in which it neither occurs nor is predicted. mIoU is
        the mean over the other classes.

        Args:
            weights: [samples, images] how often each image was drawn, images in the order of their sorted ids. Instead
                of drawing, so that two runs can be compared sample by sample.

        Raises:
            ValueError: there are no images or samples, or `weights` does not match them.
        """
        ids = self.images()
        if samples < 1 or not ids:
            raise ValueError(
                f"bootstrap of {samples} samples from {counted(len(ids), 'image')}: both must be 1 or more"
            )
        weights = self.drawn(samples, seed, weights)
        both, truth, predicted = (weights @ part for part in self._pixels_by_image(ids))  # each [samples, K]
        with np.errstate(invalid="ignore"):
            ious = both / (truth + predicted - both)
            mean = np.nansum(ious, axis=1) / (~np.isnan(ious)).sum(axis=1)
            accuracy = both.sum(axis=1) / truth.sum(axis=1)
        of_classes = {f"IoU/{name}": ious[:, slot] for slot, name in enumerate(self.names)}
        return {"mIoU": mean, "pixel_accuracy": accuracy, **of_classes}

    def _pixels_by_image(self, ids: Sequence[ImageId]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Float64 [images, K]: correct, ground-truth and predicted pixels."""
        num_classes = len(self.names)
        both, truth, predicted = np.zeros((3, len(ids), num_classes))
        for row, image_id in enumerate(ids):
            whole = self._whole_confusion([self._images[image_id]])
            both[row], truth[row], predicted[row] = whole.diagonal(), whole.sum(1), whole.sum(0)[:num_classes]
        return both, truth, predicted

    def _whole_confusion(self, images: Iterable[ImageCounts]) -> np.ndarray:
        """int64 [K, K + 1 + U]: one column for values outside the classes, and one for each of `unscored`."""
        shape = len(self.names), len(self.names) + 1 + len(self.unscored)
        total = np.zeros(math.prod(shape), dtype=np.int64)
        for indices, counts, _ in images:
            total[indices] += counts
        return total.reshape(shape)

    def _weighed(self) -> np.ndarray | None:
        """The instances of all images; None if there are none, or an image has none."""
        found = [image.instances for image in self._images.values()]
        return sum(found) if found and all(part is not None for part in found) else None  # pyright: ignore

    def _truth(self, target: dict[str, Tensor], meta: dict[str, Any]) -> np.ndarray:
        if (ground_truth := meta.get("ground_truth")) is not None:
            return _uint8(ground_truth["mask"])
        mask = without_padding(target["mask"], meta)
        if tuple(mask.shape) != tuple(meta["original_size"]):
            mask = F.interpolate(mask[None, None].float(), size=tuple(meta["original_size"]), mode="nearest-exact")
        return _uint8(mask.reshape(*meta["original_size"]))

    def _count(self, predicted: np.ndarray, truth: np.ndarray, ids: Any, image_id: ImageId) -> ImageCounts:
        for what, size in (("truth", truth.shape), ("instances", truth.shape if ids is None else np.shape(ids))):
            if predicted.shape != size:
                raise ValueError(
                    f"image {image_id!r}: prediction of size {predicted.shape}, but {what} of {tuple(size)}; "
                    "both must have the labels' original size (h, w)"
                )
        num_classes, joint = len(self.names), joint_histogram(truth, predicted)
        seen = set(np.flatnonzero(joint.any(axis=1)).tolist()) - {self.ignore_index}
        if unknown := sorted(seen - set(range(num_classes))):
            raise ValueError(
                f"image {image_id!r}: the ground truth has labels {unknown}, but the classes are 0..{num_classes - 1} "
                f"and {self.ignore_index} is ignored: check the class list of the data"
            )
        cells = self._columns(joint[:num_classes]).ravel()
        indices = np.flatnonzero(cells)
        weighed = None
        if self._scores is not None and ids is not None:
            numbers, found = self._scores.find(np.asarray(ids), predicted)
            weighed = self._scores.weigh(numbers, self._columns(found))
        return ImageCounts(indices, cells[indices], weighed)

    def _columns(self, joint: np.ndarray) -> np.ndarray:
        """Counts by predicted value [N, 256] -> [N, K + 1 + U], see `_whole_confusion`."""
        num_classes = len(self.names)
        unscored = joint[:, list(self.unscored)]
        outside = joint[:, num_classes:].sum(axis=1) - unscored.sum(axis=1)
        return np.concatenate((joint[:, :num_classes], outside[:, None], unscored), axis=1)


def joint_histogram(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 [256, 256]: how often a value of `first` lies under one of `second`, two uint8 images [H, W].

    OpenCV's histogram takes a third of the time of a bincount over index numbers (3 against 8 ms on 1024x2048).
    """
    total = np.zeros((256, 256), np.int64)
    rows = max(1, _HISTOGRAM_PIXELS // max(1, first.shape[1]))
    for top in range(0, len(first), rows):
        images = [first[top : top + rows], second[top : top + rows]]
        total += cv2.calcHist(images, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return total


def _uint8(labels: Any) -> np.ndarray:
    """Labels as uint8; those above 255 are outside the classes, like 255."""
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    return np.ascontiguousarray(array if array.dtype == np.uint8 else array.clip(0, 255).astype(np.uint8))


def _iou(confusion: np.ndarray, slots: list[int]) -> float | None:
    """IoU of the classes in `slots` taken as one; None with neither ground truth nor predictions."""
    truth = confusion[slots].sum()
    predicted = confusion[:, slots].sum()
    both = confusion[np.ix_(slots, slots)].sum()
    union = truth + predicted - both
    return float(both / union) if union else None


def _mean(ious: Mapping[str, float | None]) -> float | None:
    present = [iou for iou in ious.values() if iou is not None]
    return sum(present) / len(present) if present else None
