"""The content of a report on one evaluated run, as a JSON file that a later report can read."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...absent import Results, from_file

FORMAT = 1
_MAX_BYTES = 256 << 20
FILE, IMAGES = "summary.json", "images"
HEADLINES = {  # the first is the one that selects the best checkpoint
    "detection": ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"),
    "segmentation": ("mIoU", "pixel_accuracy", "mIoU_category", "iIoU"),
    "classification": ("top1", "top5"),
}


@dataclass
class Summary:
    """One run on one dataset, as plain JSON; missing metrics are None."""

    kind: str
    name: str
    facts: dict[str, str]  # what was evaluated: checkpoint, data, split, images, when
    results: Results
    environment: dict[str, str]
    command: str
    config: dict[str, str]  # dotted key -> value
    training: list[dict[str, Any]]  # rows of metrics.jsonl
    classes: list[dict[str, Any]] = field(default_factory=list)  # name, color [r, g, b], and metrics by title
    confusion: dict[str, Any] = field(default_factory=dict)  # rows, columns: names; cells: [row, column, count]
    curves: dict[str, Any] = field(default_factory=dict)  # detection: lists by class
    errors: Results = field(default_factory=dict)  # detection: AP50 points lost
    sizes: dict[str, Any] = field(default_factory=dict)  # detection: edges in pixels, truths, found
    notes: list[str] = field(default_factory=list)
    gallery: list[dict[str, Any]] = field(default_factory=list)  # pictures, see gallery.py

    def save(self, folder: Path) -> None:
        content = {"format": FORMAT, **plain(asdict(self))}
        (folder / FILE).write_text(json.dumps(content, separators=(",", ":"), allow_nan=False))

    @classmethod
    def load(cls, folder: Path) -> "Summary":
        """The summary that `pocketvision evaluate report=true` wrote to a folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not a summary, or is from another version.
        """
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: write it with pocketvision evaluate run={folder.parent} report=true"
            )
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"larger than {_MAX_BYTES >> 20} MB")
            content = json.loads(path.read_text())
            version = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path} is not an evaluation summary ({error!r:.100}): evaluate with report=true again"
            ) from error
        names = {item.name: item.type for item in fields(cls)}
        if version != FORMAT or content.keys() != names.keys() or content["kind"] not in list(HEADLINES):
            raise ValueError(
                f"{path} was written by another version (format {version!r:.20}): evaluate with report=true again"
            )
        try:
            content["results"] = from_file(content["results"])
            content["training"] = [from_file(row) if row["kind"] == "val" else row for row in content["training"]]
            content["classes"] = [from_file(row) for row in content["classes"]]
        except (AttributeError, TypeError, LookupError, OverflowError):  # `read_summary` names the part
            pass
        return cls(**content)


def confusion(rows: list[str], columns: list[str], counts: np.ndarray, *, background: bool = False) -> dict[str, Any]:
    """Names and the nonzero cells; with `background`, the last row and column are the background."""
    cells = [[int(r), int(c), int(counts[r, c])] for r, c in np.argwhere(counts)]
    return {"rows": rows, "columns": columns, "cells": cells, "background": background}


def plain(value: Any) -> Any:
    """Non-finite floats become None, others keep six digits; numpy values become Python's."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
