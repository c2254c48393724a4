"""Check that all variants agree: a variant with different results is not a faster one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..exporting.verify import LIMITS, num_matched

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
    if kind == "detection":
        total = sum(len(a) + len(b) for a, b in pairs)
        matched = sum(num_matched(a, b, limits) + num_matched(b, a, limits) for a, b in pairs)
        return "unmatched detections", (total - matched) / total if total else 0.0, limits.unmatched
    if kind == "segmentation":
        same_shape = all(a.shape == b.shape for a, b in pairs)
        wrong = sum(int((a != b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs) if same_shape else 1.0
        return "differing pixels", wrong, limits.pixels
    worst = max(float((_by_class(a) - _by_class(b)).abs().max()) for a, b in pairs)
    return "probability off by", worst, limits.probability


def _by_class(ranking: Any) -> torch.Tensor:
    return ranking.scores[ranking.labels.argsort()]
