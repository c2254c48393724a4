"""Top-1 and top-5 accuracy, as for ImageNet."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..absent import Results
from ..words import counted
from .image_metric import ImageMetric, class_list
from .postprocess import Ranking

MAX_NAMED = 100  # maximum number of classes for per-class accuracy


class Placed(NamedTuple):
    """One image: its class, the rank of that class from 0, and the first class with its probability."""

    label: int
    place: int
    first: int
    probability: float


class TopAccuracy(ImageMetric[Placed]):
    """Fraction of images whose true class ranks first, or among the first five; each image counts once.

    With fewer than five classes `top5` uses all of them, and is 1.
    """

    primary = "top1"

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = class_list(names)

    def update(
        self, predictions: Sequence[Ranking], targets: Sequence[dict[str, Tensor]], metas: Sequence[dict[str, Any]]
    ) -> None:
        """Add rankings; the true class is each target's `label`."""
        if not len(predictions):
            return
        labels = torch.stack([target["label"] for target in targets])
        order = torch.stack([prediction.labels for prediction in predictions])
        if order.shape[1] != len(self.names):
            raise ValueError(
                f"predictions rank {counted(order.shape[1], 'class')}, but the metric has {len(self.names)}"
            )
        is_truth = order == labels[:, None]
        if not is_truth.any(1).all():  # note: evaluation waits for the device here anyway
            raise ValueError(f"labels {labels.tolist()} are not all among the {counted(len(self.names), 'class')}")
        places = is_truth.int().argmax(1).tolist()
        best = torch.stack([prediction.scores[0] for prediction in predictions])
        rows = zip(labels.tolist(), places, order[:, 0].tolist(), best.tolist(), strict=True)
        for row, meta in zip(rows, metas, strict=True):
            self._images.setdefault(meta["image_id"], Placed(*row))

    def compute(self) -> Results:
        """`top1`, `top5`, and for up to 100 classes `top1/<name>`; None without images."""
        found = list(self._images.values())
        results = {f"top{k}": _share([image.place < k for image in found]) for k in (1, 5)}
        if len(self.names) <= MAX_NAMED:
            of_class: list[list[bool]] = [[] for _ in self.names]
            for image in found:
                of_class[image.label].append(image.place == 0)
            results |= {f"top1/{name}": _share(hits) for name, hits in zip(self.names, of_class, strict=True)}
        return results

    def confusion(self) -> np.ndarray:
        """int64 [K, K]: images by true class and predicted class."""
        counts = np.zeros((len(self.names), len(self.names)), np.int64)
        for image in self._images.values():
            counts[image.label, image.first] += 1
        return counts


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
