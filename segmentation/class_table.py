"""A confusion matrix as text, one line per class."""

from collections.abc import Mapping, Sequence

import numpy as np

_ONE_BLOCK = 30  # classes; more are shown in two columns
_LONGEST_NAME = 22


def class_table(names: Sequence[str], confusion: np.ndarray, iious: Mapping[str, float] | None = None) -> str:
    """Percent by class: IoU, share of the ground-truth pixels, precision, recall, and iIoU if `iious` has it.

    Args:
        confusion: [K, K + 1] pixels by ground truth and prediction, see `MeanIoU.confusion`.

    A dash marks undefined values: recall without ground truth, precision without predictions. Classes with
    neither are omitted.
    """
    num_classes = len(names)
    both, truth, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion[:, :num_classes].sum(axis=0)
    columns = {
        "IoU": _percent(both, truth + predicted - both),
        "truth": _percent(truth, np.full(num_classes, truth.sum())),
        "precision": _percent(both, predicted),
        "recall": _percent(both, truth),
    }
    if iious:
        columns["iIoU"] = [f"{100 * iious[name]:.2f}" if name in iious else "-" for name in names]
    short = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..." for name in names]
    width = max(len("class"), *map(len, short))
    lines = [f"{'class':<{width}}" + "".join(f"{key:>10}" for key in columns)]
    present = np.flatnonzero(truth + predicted).tolist()
    lines += [f"{short[row]:<{width}}" + "".join(f"{cells[row]:>10}" for cells in columns.values()) for row in present]
    absent = num_classes - len(present)
    note = [f"  {absent} of {num_classes} classes have neither ground truth nor predictions"] if absent else []
    return "\n".join([*_blocks(lines), *note])


def _percent(part: np.ndarray, whole: np.ndarray) -> list[str]:
    return [f"{100 * a / b:.2f}" if b else "-" for a, b in zip(part.tolist(), whole.tolist(), strict=True)]


def _blocks(lines: list[str]) -> list[str]:
    """`lines`, the first one is the header; many lines go into two columns."""
    header, rows = lines[0], lines[1:]
    if len(rows) <= _ONE_BLOCK:
        return [f"  {line}" for line in lines]
    half = -(-len(rows) // 2)
    left, right = [header, *rows[:half]], [header, *rows[half:]]
    right += [""] * (len(left) - len(right))
    return [f"  {a}    {b}".rstrip() for a, b in zip(left, right, strict=True)]
