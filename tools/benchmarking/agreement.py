"""Whether all variants say the same: a faster one that says something else is no faster one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..exporting.verify import LIMITS, num_matched

LOSS = {"fp32": 1e-3, "bf16": 0.1}  # relative


@dataclass(frozen=True)
class Agreement:
    """One figure with what it may be at most; infinity where it is told and not judged."""

    what: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.value <= self.limit  # a NaN does not

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4%}"


def compare(
    kind: str, expected: Sequence[Any], found: Sequence[Any], *, precision: str, trained: bool = True
) -> Agreement:
    """The share of detections not found again, of pixels of another class, or how far a probability or a loss is off.

    Args:
        kind: the task's, or "training" for losses.
        expected, found: one Detections, label map or Ranking for each image, or one loss.
        trained: false for random weights. All their scores lie close together, so that with half precision other
            candidates are the best: that is no mistake, and not judged.
    """
    agreement = _compare(kind, expected, found, precision=precision)
    if precision == "fp32" or trained or math.isnan(agreement.value):
        return agreement
    return replace(agreement, limit=math.inf)


def _compare(kind: str, expected: Sequence[Any], found: Sequence[Any], *, precision: str) -> Agreement:
    limits = LIMITS[precision]
    if len(expected) != len(found):
        return Agreement("images lacking", 1.0, 0.0)
    pairs = list(zip(expected, found, strict=True))
    if kind == "training":
        worst = max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)
        return Agreement("loss off by", worst, LOSS[precision])
    if kind == "detection":
        total = sum(len(a) + len(b) for a, b in pairs)
        matched = sum(num_matched(a, b, limits) + num_matched(b, a, limits) for a, b in pairs)
        return Agreement("detections not found again", (total - matched) / total if total else 0.0, limits.unmatched)
    if kind == "segmentation":
        same_shape = all(a.shape == b.shape for a, b in pairs)
        wrong = sum(int((a != b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs) if same_shape else 1.0
        return Agreement("pixels of another class", wrong, limits.pixels)
    worst = max(float((_by_class(a) - _by_class(b)).abs().max()) for a, b in pairs)
    return Agreement("probability off by", worst, limits.probability)


def _by_class(ranking: Any) -> torch.Tensor:
    return ranking.scores[ranking.labels.argsort()]


def check(reference: str, agreements: dict[str, Agreement]) -> None:
    """Raise ValueError if a variant does not say what the reference says: their times are of different things."""
    for name, agreement in agreements.items():
        if not agreement.holds:
            raise ValueError(
                f"{name} does not compute what {reference} does: {agreement}, at most {agreement.limit:.2%} are "
                "rounding. Nothing was measured"
            )
