"""Top-1 and top-5 accuracy, as ImageNet counts them."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .postprocess import Ranking

MAX_NAMED = 100  # classes up to which each one's accuracy is told


class TopAccuracy:
    """Share of images whose truth is the first, or among the first five, of the classes; each image counts once.

    With fewer than five classes `top5` looks at as many as there are, and is 1.
    """

    primary = "top1"

    def __init__(self, names: Mapping[int, str]) -> None:
        if sorted(names) != list(range(len(names))) or not names:
            raise ValueError(f"names must cover the slots 0..K-1 without gaps; got slots {sorted(names)}")
        self.names = [names[slot] for slot in range(len(names))]
        self._images: dict[Hashable, tuple[int, int]] = {}  # image id -> its label, that label's place from 0

    def reset(self) -> None:
        self._images = {}

    def state(self) -> dict[Hashable, tuple[int, int]]:
        """Picklable, for `merge` on another rank."""
        return dict(self._images)

    def merge(self, states: Sequence[dict[Hashable, tuple[int, int]]]) -> None:
        """Replace the own state by the union of `states`, each image once."""
        self._images = {image: found for state in states for image, found in state.items()}

    def update(
        self, predictions: Sequence[Ranking], targets: Sequence[dict[str, Tensor]], metas: Sequence[dict[str, Any]]
    ) -> None:
        """Add rankings; the truth is each target's `label`."""
        if not len(predictions):
            return
        labels = torch.stack([target["label"] for target in targets])
        order = torch.stack([prediction.labels for prediction in predictions])
        if order.shape[1] != len(self.names):
            raise ValueError(f"predictions rank {order.shape[1]} classes, the metric has {len(self.names)}")
        is_truth = order == labels[:, None]
        if not is_truth.any(1).all():  # note: evaluation waits for the device here anyway
            raise ValueError(f"labels {labels.tolist()} are not all among the {len(self.names)} classes")
        places = is_truth.int().argmax(1).tolist()
        for label, place, meta in zip(labels.tolist(), places, metas, strict=True):
            self._images.setdefault(meta["image_id"], (label, place))

    def compute(self) -> dict[str, float]:
        """`top1`, `top5`, and up to 100 classes `top1/<name>` of those that have images; 0 without any image."""
        found = list(self._images.values())
        results = {f"top{k}": _share([place < k for _, place in found]) for k in (1, 5)}
        if len(self.names) <= MAX_NAMED:
            of_class: dict[int, list[bool]] = {}
            for label, place in found:
                of_class.setdefault(label, []).append(place == 0)
            results |= {f"top1/{self.names[label]}": _share(of_class[label]) for label in sorted(of_class)}
        return results


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / max(1, len(hits))
