"""Check that all variants agree: a variant with different results is not a faster one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    agreement = _compare(kind, expected, found, precision=precision)
    if precision == "fp32" or trained or math.isnan(agreement.value):
        return agreement
    return replace(agreement, limit=math.inf)


def _compare(kind: str, expected: Sequence[Any], found: Sequence[Any], *, precision: str) -> Agreement:
    limits = LIMITS[precision]
    if len(expected) != len(found):
        return Agreement("missing images", 1.0, 0.0)
    pairs = list(zip(expected, found, strict=True))
    if kind == "training":
        worst = max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)
        return Agreement("loss off by", worst, LOSS[precision])
    what, limit = {
        "detection": ("unmatched detections", limits.unmatched),
        "segmentation": ("differing pixels", limits.pixels),
    }.get(kind, ("probability off by", limits.probability))
    return Agreement(what, difference(kind, pairs, limits), limit)


def check(reference: str, agreements: dict[str, Agreement]) -> None:
    """Raise ValueError if a variant does not agree with the reference: their times would not be comparable."""
    for name, agreement in agreements.items():
        if not agreement.holds:
            raise ValueError(
                f"{name} does not agree with {reference}: {agreement}, but rounding explains at most "
                f"{agreement.limit:.2%}. Nothing was measured"
            )
