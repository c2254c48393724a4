"""Cityscapes' iIoU: intersection over union in which each instance counts as if it had average size."""

from collections.abc import Mapping, Sequence

import numpy as np

_IDS = 1 << 16  # instance files have 16 bits
_PER_CLASS = 1000  # an instance's id is its class id * 1000 + a count; smaller ids are not single instances


class InstanceScores:
    """Pixels found and missed, weighted by instance: average size of the class / size of the instance.

    A category has an iIoU if all its classes are in `instances`. See `MeanIoU` for the arguments; `extra` are further
    columns of the confusion matrix that match a category's instances. False positives are IoU's, unweighted.
    """

    def __init__(
        self,
        instances: Mapping[int, tuple[int, float]],
        categories: Mapping[str, Sequence[int]],
        extra: Mapping[str, Sequence[int]],
    ) -> None:
        self.slots = sorted(instances)
        self.categories = {
            name: ([*slots, *extra[name]], list(slots))
            for name, slots in categories.items()
            if slots and set(slots) <= set(instances)
        }
        self._sizes = np.array([instances[slot][1] for slot in self.slots])
        self._class_of_id = np.full(_IDS, -1)  # an id -> its class's position in `slots`
        for place, slot in enumerate(self.slots):
            first = instances[slot][0] * _PER_CLASS
            if not _PER_CLASS <= first <= _IDS - _PER_CLASS:
                raise ValueError(
                    f"instances with class id {instances[slot][0]}: expected 1 to {_IDS // _PER_CLASS - 1}"
                )
            self._class_of_id[first : first + _PER_CLASS] = place

    def find(self, ids: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids [N] of an image's scored instances, and their pixels by predicted value, int64 [N, 256]."""
        pixels = ids >= _PER_CLASS
        if ids.dtype != np.uint16:
            ids = ids.astype(np.uint16)
        ids, predicted = ids[pixels], predicted[pixels]
        present = np.flatnonzero(np.bincount(ids, minlength=1))
        number = np.zeros(_IDS, np.int64)
        number[present] = np.arange(len(present)) * 256
        joint = np.bincount(number[ids] + predicted, minlength=len(present) * 256).reshape(-1, 256)
        scored = self._class_of_id[present] >= 0
        return present[scored], joint[scored]

    def weigh(self, ids: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Float64 [2, I + C], weighted pixels found and missed for each class in `slots` and each category.

        `columns` [N, ...] are the pixels of each of the instances `ids` by column of the confusion matrix.
        """
        place, total = self._class_of_id[ids], columns.sum(axis=1)
        weight = self._sizes[place] / np.maximum(1, total)
        sums = np.zeros((2, len(self.slots) + len(self.categories)))
        found = columns[np.arange(len(ids)), np.array(self.slots)[place]]
        np.add.at(sums[0], place, found * weight)
        np.add.at(sums[1], place, (total - found) * weight)
        for column, (seen, own) in enumerate(self.categories.values(), start=len(self.slots)):
            inside = np.isin(np.array(self.slots)[place], own)
            found = columns[inside][:, seen].sum(axis=1)
            sums[0, column] = (found * weight[inside]).sum()
            sums[1, column] = ((total[inside] - found) * weight[inside]).sum()
        return sums

    def ious(
        self, confusion: np.ndarray, sums: np.ndarray, names: Sequence[str]
    ) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """`iIoU/<name>` and `category_iIoU/<name>`, from `confusion` [K, ...] and the `sums` of `weigh` over images."""
        groups = [([slot], [slot]) for slot in self.slots] + list(self.categories.values())
        values: list[float | None] = []
        for (found, missed), (seen, own) in zip(sums.T, groups, strict=True):
            false_alarms = np.delete(confusion[:, seen], own, axis=0).sum()
            union = found + missed + false_alarms
            values.append(float(found / union) if union else None)
        of_classes = [f"iIoU/{names[slot]}" for slot in self.slots]
        of_categories = [f"category_iIoU/{name}" for name in self.categories]
        split = len(self.slots)
        return dict(zip(of_classes, values[:split], strict=True)), dict(zip(of_categories, values[split:], strict=True))
