"""Metrics without ground truth are absent: None in Python, null in JSON, "-" in text. Not -1, which COCO prints, or 0.

Imports no other module of the package, so that every module may use it. Arrays inside have NaN in these places.
"""

import math
from collections.abc import Mapping
from typing import Any

Results = dict[str, float | None]  # of an evaluation, by name


def known(value: float | None) -> float | None:
    """The number; None if it is absent or not finite."""
    return value if value is not None and math.isfinite(value) else None


def from_file(values: Mapping[str, Any]) -> dict[str, Any]:
    """The results in a file. Earlier versions wrote -1 for absent ones, which no metric can be."""
    return {
        key: (None if value == -1 else known(value)) if isinstance(value, int | float) else value
        for key, value in values.items()
    }


def written(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
