"""A confusion matrix of pixels as text, one line per class."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from ...absent import written
from ...words import counted, listed, verb
from ..system.console import columns

_ONE_BLOCK = 30  # classes; more are shown in two columns
_LONGEST_NAME = 22


def pixel_table(names: Sequence[str], confusion: np.ndarray, iious: Mapping[str, float | None] | None = None) -> str:
    """Percent by class: IoU, share of the ground-truth pixels, precision, recall, and iIoU if `iious` has it.

    Args:
        confusion: [K, K + 1] pixels by ground truth and prediction, see `MeanIoU.confusion`.

    A dash marks absent values: recall without ground truth, precision without predictions. Classes with neither are
    named below.
    """
    num_classes = len(names)
    both, truth, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion[:, :num_classes].sum(axis=0)
    cells = {
        "class": [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..." for name in names],
        "IoU": _percent(both, truth + predicted - both),
        "truth": _percent(truth, np.full(num_classes, truth.sum())),
        "precision": _percent(both, predicted),
        "recall": _percent(both, truth),
    }
    if iious:
        cells["iIoU"] = [written(None if (iiou := iious.get(name)) is None else 100 * iiou, ".2f") for name in names]
    present = np.flatnonzero(truth + predicted).tolist()
    rows = [list(cells), *([column[row] for column in cells.values()] for row in present)]
    lines = columns(rows, indent="  ")
    if len(present) > _ONE_BLOCK:
        half = -(-len(present) // 2)
        blocks = zip_longest(lines[: 1 + half], [lines[0], *lines[1 + half :]], fillvalue="")
        lines = [f"{left}  {right}".rstrip() for left, right in blocks]
    if absent := [name for name, count in zip(names, truth + predicted, strict=True) if not count]:
        of_all = f"{len(absent)} of {counted(num_classes, 'class')} {verb(len(absent), 'has', 'have')}"
        lines.append(f"  {of_all} neither ground truth nor predictions: {listed(absent)}")
    return "\n".join(lines)


def _percent(part: np.ndarray, whole: np.ndarray) -> list[str]:
    return [f"{100 * a / b:.2f}" if b else "-" for a, b in zip(part.tolist(), whole.tolist(), strict=True)]
