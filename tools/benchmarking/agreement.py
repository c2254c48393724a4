"""Check that all variants agree: a variant with different results is not a faster one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..exporting.verify import LIMITS, difference

LOSS = {"fp32": 1e-3, "bf16": 0.1}  # relative


@dataclass(frozen=True)
class Agreement:
    """One measured difference and its limit; infinity if it is only reported."""

    what: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.value <= self.limit  # false for NaN

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4%}"


def compare(
    kind: str, expected: Sequence[Any], found: Sequence[Any], *, precision: str, trained: bool = True
) -> Agreement:
    """The share of unmatched detections or differing pixels, or the error of a probability or a loss.

    Args:
        kind: the task's, or "training" for losses.
        expected, found: one Detections, label map or Ranking per image, or one loss.
        trained: false for random weights. Their scores are all close together, so half precision changes which
            candidates are best: that is not an error, and has no limit.
    """
    what, value, limit = _difference(kind, expected, found, precision)
    judged = precision == "fp32" or trained or math.isnan(value)
    return Agreement(what, value, limit if judged else math.inf)


def _difference(kind: str, expected: Sequence[Any], found: Sequence[Any], precision: str) -> tuple[str, float, float]:
    """What differs, by how much, and the limit."""
    limits = LIMITS[precision]
    if len(expected) != len(found):
        return "missing images", 1.0, 0.0
    pairs = list(zip(expected, found, strict=True))
    if kind == "training":
        return "loss off by", max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs), LOSS[precision]
    what, limit = {
        "detection": ("unmatched detections", limits.unmatched),
        "segmentation": ("differing pixels", limits.pixels),
    }.get(kind, ("probability off by", limits.probability))
    return what, difference(kind, pairs, limits), limit
