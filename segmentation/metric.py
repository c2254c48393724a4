"""Mean intersection over union by Cityscapes' rules."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .postprocess import without_padding

# The non-zero cells of one image's confusion matrix (flat indices, pixel counts). A picture shows few of the classes,
# so this is small where dense matrices of every image would not be (150 classes: 180 KB an image).
_Cells = tuple[np.ndarray, np.ndarray]


class MeanIoU:
    """Confusion matrix over the labels' original pixels, kept per image so that no image counts twice.

    Rules of Cityscapes' evaluation: pixels whose truth is `ignore_index` don't count; a class without truth that was
    predicted somewhere has IoU 0; one without either is left out, of the report as of the mean; a prediction outside
    the classes is a miss of the true class and nobody's false alarm. `categories` maps a name to its slots; confusions
    inside a category are no errors of the category.
    """

    primary = "mIoU"

    def __init__(
        self,
        names: Mapping[int, str],
        *,
        categories: Mapping[str, Sequence[int]] | None = None,
        ignore_index: int = 255,
    ) -> None:
        if sorted(names) != list(range(len(names))) or not names:
            raise ValueError(f"names must cover the slots 0..K-1 without gaps; got slots {sorted(names)}")
        for name, slots in (categories or {}).items():
            if unknown := sorted(set(slots) - set(names)):
                raise ValueError(f"category {name!r} has slots {unknown}; the classes have 0..{len(names) - 1}")
        self.names = [names[slot] for slot in range(len(names))]
        self.categories = {name: list(slots) for name, slots in (categories or {}).items()}
        self.ignore_index = ignore_index
        self._images: dict[Hashable, _Cells] = {}

    def reset(self) -> None:
        self._images = {}

    def state(self) -> dict[Hashable, _Cells]:
        """Picklable, for `merge` on another rank: image id -> the non-zero cells of its confusion matrix."""
        return dict(self._images)

    def merge(self, states: Sequence[dict[Hashable, _Cells]]) -> None:
        """Replace the own state by the union of `states`, each image once (samplers repeat some to fill up ranks)."""
        self._images = {image: cells for state in states for image, cells in state.items()}

    def update(
        self,
        predictions: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        metas: Sequence[dict[str, Any]],
    ) -> None:
        """Add label maps [H0, W0]; truth is `meta["ground_truth"]["mask"]`, else the target's mask mapped back."""
        for prediction, target, meta in zip(predictions, targets, metas, strict=True):
            if meta["image_id"] not in self._images:
                self._images[meta["image_id"]] = self._cells(prediction, self._truth(target, meta), meta["image_id"])

    def compute(self) -> dict[str, float]:
        """`mIoU`, `pixel_accuracy`, `IoU/<name>`, and with categories `mIoU_category`, `category/<name>`; never NaN."""
        confusion = self.confusion()
        of_classes = {f"IoU/{name}": _iou(confusion, [slot]) for slot, name in enumerate(self.names)}
        of_categories = {f"category/{name}": _iou(confusion, slots) for name, slots in self.categories.items()}
        correct, counted = int(confusion.trace()), int(confusion.sum())
        results = {"mIoU": _mean(of_classes), "pixel_accuracy": correct / max(1, counted)}
        if of_categories:
            results["mIoU_category"] = _mean(of_categories)
        return results | {key: iou for key, iou in (of_classes | of_categories).items() if iou is not None}

    def confusion(self) -> np.ndarray:
        """int64 [K, K + 1]: pixels by truth and prediction; the last column is every prediction outside the classes."""
        num_classes = len(self.names)
        total = np.zeros(num_classes * (num_classes + 1), dtype=np.int64)
        for indices, counts in self._images.values():
            total[indices] += counts
        return total.reshape(num_classes, num_classes + 1)

    def _truth(self, target: dict[str, Tensor], meta: dict[str, Any]) -> Tensor:
        if (ground_truth := meta.get("ground_truth")) is not None:
            return torch.as_tensor(ground_truth["mask"])
        mask = without_padding(target["mask"], meta)
        if tuple(mask.shape) == tuple(meta["original_size"]):
            return mask
        resized = F.interpolate(mask[None, None].float(), size=tuple(meta["original_size"]), mode="nearest-exact")
        return resized[0, 0].long()

    def _cells(self, prediction: Tensor, truth: Tensor, image_id: Hashable) -> _Cells:
        if prediction.shape != truth.shape:
            raise ValueError(
                f"image {image_id!r}: prediction of size {tuple(prediction.shape)} and truth of {tuple(truth.shape)}; "
                "both must have the labels' original size (h, w)"
            )
        width = len(self.names) + 1
        truth = truth.to(prediction.device).flatten().long()
        predicted = prediction.flatten().long().clamp(max=width - 1)  # the last column: outside the classes
        counts = torch.bincount(truth * width + predicted).cpu().numpy()
        indices = np.flatnonzero(counts)
        indices = indices[indices // width != self.ignore_index]
        if unknown := sorted(set((indices // width).tolist()) - set(range(len(self.names)))):
            raise ValueError(
                f"image {image_id!r}: truth has labels {unknown}, the classes are 0..{len(self.names) - 1} "
                f"and {self.ignore_index} is ignored: check the label table of the data"
            )
        return indices, counts[indices]


def _iou(confusion: np.ndarray, slots: list[int]) -> float | None:
    """IoU of the classes in `slots` taken as one; None where there is neither truth nor prediction."""
    truth = confusion[slots].sum()
    predicted = confusion[:, slots].sum()
    both = confusion[np.ix_(slots, slots)].sum()
    union = truth + predicted - both
    return float(both / union) if union else None


def _mean(ious: dict[str, float | None]) -> float:
    present = [iou for iou in ious.values() if iou is not None]
    return sum(present) / len(present) if present else 0.0
