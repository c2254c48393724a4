"""COCO's average precision, computed by pycocotools, so the numbers are the official ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..absent import Results
from ..backbones.image_metric import ImageId, ImageMetric, Weights
from .accumulation import Accumulated, Arrays, Image, accumulate, check_backend
from .boxes import area, to_original, xyxy_to_xywh
from .matching_coco import Matches, match
from .resampling import resampled_precision
from .results import Detections


class CocoMetric(ImageMetric[Image]):
    """The twelve COCO metrics and the AP of each class, `AP/<name>`; None without ground truth (pycocotools' -1).

    `names` maps slots to class names; detections of other slots (gaps of `coco91`) are dropped. An image counts once
    however often it is added. `AR1`, `AR10` and `AR100` are recalls at 1, 10 and `max_detections` per class and image.
    `backend` is `pycocotools`, or `faster` for faster-coco-eval, with the same results.
    """

    primary = "AP"

    def __init__(self, names: Mapping[int, str], *, max_detections: int = 100, backend: str = "pycocotools") -> None:
        super().__init__()
        if not names or min(names) < 1:
            raise ValueError(f"names must map slots from 1 on to class names, got {dict(names)}")
        if max_detections < 10:
            raise ValueError(f"max_detections must be at least 10, for AR10; got {max_detections}")
        check_backend(backend)
        self.backend = backend
        self.names = dict(sorted(names.items()))
        self.max_detections = max_detections

    def update(
        self,
        predictions: Sequence[Detections],
        targets: Sequence[Mapping[str, Tensor]],
        metas: Sequence[Mapping[str, Any]],
    ) -> None:
        """Add images. The ground truth is `meta["ground_truth"]`, or else the target in original pixels."""
        for found, target, meta in zip(predictions, targets, metas, strict=True):
            truth = meta.get("ground_truth")
            truth = _truth_of_target(target, meta) if truth is None else {k: np.asarray(v) for k, v in truth.items()}
            self.add(meta["image_id"], _detection_arrays(found), truth)

    def add(self, image_id: ImageId, detections: Arrays, truth: Arrays) -> None:
        """Add one image: `boxes_xywh [N, 4]`, `labels`, `scores`; `boxes_xywh [M, 4]`, `labels`, `area`, `crowd`.

        Raises:
            ValueError: the ground truth has slots without a class.
        """
        if image_id in self._images:
            return
        unknown = set(truth["labels"].tolist()) - self.names.keys()
        if unknown:
            raise ValueError(
                f"image {image_id!r}: its annotations have the class indices {sorted(unknown)}, "
                f"but the class list has only {list(self.names)}"
            )
        self._images[image_id] = detections, truth

    def compute(self) -> Results:
        """The metrics by name, each in 0..1 or None."""
        arrays = self.accumulate()
        precision, recall = arrays.precision, arrays.recall
        figures = {
            "AP": precision[:, :, :, 0, 2],
            "AP50": precision[0, :, :, 0, 2],
            "AP75": precision[5, :, :, 0, 2],
            "APs": precision[:, :, :, 1, 2],
            "APm": precision[:, :, :, 2, 2],
            "APl": precision[:, :, :, 3, 2],
            "AR1": recall[:, :, 0, 0],
            "AR10": recall[:, :, 0, 1],
            "AR100": recall[:, :, 0, 2],
            "ARs": recall[:, :, 1, 2],
            "ARm": recall[:, :, 2, 2],
            "ARl": recall[:, :, 3, 2],
            **{f"AP/{name}": precision[:, :, k, 0, 2] for k, name in enumerate(self.names.values())},
        }
        return {name: _mean_of_known(values) for name, values in figures.items()}

    def accumulate(self) -> Accumulated:
        """Precision and recall as accumulated by pycocotools, classes in the order of `names`."""
        images = [self._images[image] for image in self.images()]
        return accumulate(images, list(self.names), max_detections=self.max_detections, backend=self.backend)

    def matches(self) -> Matches:
        """The matches between detections and annotations, the input of analysis and resampling."""
        images = [self._images[image] for image in self.images()]
        return match(images, list(self.names), max_detections=self.max_detections)

    def bootstrap(
        self, samples: int, seed: int = 0, *, weights: Weights | None = None
    ) -> dict[str, npt.NDArray[np.float64]]:
        """AP, AP50 and `AP/<name>`, each [samples], of datasets drawn from the images with replacement.

        Each equals pycocotools' result for the drawn dataset (except for tied scores within an image and class), or is
        NaN where that has no ground truth.

        Args:
            weights: [samples, images] how often each draw has each of `images()`; drawn from `seed` by default.
        """
        return resampled_precision(self.matches(), self.names, self.drawn(samples, seed, weights))


def _detection_arrays(detections: Detections) -> Arrays:
    return {
        "boxes_xywh": xyxy_to_xywh(detections.boxes.detach().cpu().double()).numpy(),
        "labels": detections.labels.cpu().numpy(),
        "scores": detections.scores.detach().cpu().double().numpy(),
    }


def _truth_of_target(target: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Arrays:
    boxes = target["boxes"].cpu().double()
    crowds = target.get("crowd_boxes", boxes.new_zeros(0, 4)).cpu().double()
    crowd_labels = target.get("crowd_labels", target["labels"].new_zeros(0)).cpu()
    all_boxes = to_original(torch.cat((boxes, crowds))[None], [meta])[0]
    return {
        "boxes_xywh": xyxy_to_xywh(all_boxes).numpy(),
        "labels": np.concatenate([target["labels"].cpu().numpy(), crowd_labels.numpy()]),
        "area": area(all_boxes).numpy(),
        "crowd": np.arange(len(all_boxes)) >= len(boxes),
    }


def _mean_of_known(values: npt.NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(np.mean(known)) if known.size else None
