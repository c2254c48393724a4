"""Checks boxes against their images and each other."""

from collections.abc import Iterator

import numpy as np

from ...words import verb
from ..annotations.boxes import CLIP_TOLERANCE, BoxTable, xywh_to_xyxy
from ..annotations.faults import Fault

SAME_TOLERANCE = 0.01  # pixels by which the corners of duplicate boxes may differ
MIN_SIDE = 2.0  # pixels of the network's input


def check_boxes(table: BoxTable, input_size: tuple[int, int], *, letterbox: bool = False) -> Iterator[Fault]:
    """Faults of single boxes, and duplicates; crowd regions may have any size or overlap inside the image."""
    with np.errstate(all="ignore"):  # numbers in files may be arbitrarily large
        xyxy, inside = xywh_to_xyxy(table.boxes_xywh), table.clipped()
        sized = ((table.widths > 0) & (table.heights > 0))[table.image]  # of a missing image nothing is known
        degenerate = sized & (table.boxes_xywh[:, 2:] <= 0).any(1)
        away = sized & ~degenerate & (inside[:, 2:] <= inside[:, :2]).any(1)
        left = sized & ~degenerate & ~away
        reach = np.abs(inside - xyxy).max(1, initial=0)
        outside = left & (reach > CLIP_TOLERANCE)
        seen = (inside[:, 2:] - inside[:, :2]) * input_scale(table, input_size, letterbox=letterbox)[table.image]
        tiny = left & ~table.crowd & (seen < MIN_SIDE).any(1)
        told = _Told(table, xyxy)
    for row in np.flatnonzero(degenerate).tolist():
        yield told.fault("box_degenerate", row, "has no width or no height")
    for row in np.flatnonzero(away).tolist():
        yield told.fault("box_away", row, f"lies outside the image ({told.size(row)})")
    for row in np.flatnonzero(outside).tolist():
        far = float(reach[row])
        text = f"extends {far:.4g} {verb(far, 'pixel', 'pixels')} outside the image ({told.size(row)})"
        yield told.fault("box_outside", row, text)
    for row in np.flatnonzero(tiny).tolist():
        width, height = seen[row]
        yield told.fault("box_tiny", row, f"is {width:.2g}x{height:.2g} pixels (width x height) in the network's input")
    yield from _copies(table, xyxy, told)


def input_scale(table: BoxTable, input_size: tuple[int, int], *, letterbox: bool = False) -> np.ndarray:
    """float64 [N, 2], by which the resize to `input_size` (h, w) multiplies x and y of each image's boxes."""
    sizes = np.maximum(np.stack([table.widths, table.heights], 1), 1).astype(float).reshape(-1, 2)
    scale = np.array(input_size[::-1]) / sizes
    return np.broadcast_to(scale.min(1, keepdims=True), scale.shape) if letterbox else scale


def _copies(table: BoxTable, xyxy: np.ndarray, told: "_Told") -> Iterator[Fault]:
    """Boxes equal to the one before them, in an order where equal boxes are adjacent."""
    rows = np.flatnonzero(~table.crowd)
    with np.errstate(all="ignore"):
        cells = np.rint(xyxy[rows] / SAME_TOLERANCE)
    order = np.lexsort((rows, *cells.T[::-1], table.image[rows]))
    rows, cells = rows[order], cells[order]
    start = 0
    same = np.all(cells[1:] == cells[:-1], axis=1) & (table.image[rows[1:]] == table.image[rows[:-1]])
    ends = np.append(np.flatnonzero(~same) + 1, len(rows)) if len(rows) else []
    for end in ends:
        if end - start > 1:
            yield from _group(table, rows[start:end].tolist(), told)
        start = end


def _group(table: BoxTable, rows: list[int], told: "_Told") -> Iterator[Fault]:
    by_class: dict[int, list[int]] = {}
    for row in rows:
        by_class.setdefault(int(table.slots[row]), []).append(row)
    for copies in by_class.values():
        for row in copies[1:]:
            yield told.fault("duplicate_box", row, f"occurs {len(copies)} times")
    if len(by_class) > 1:
        names = sorted(told.name(copies[0]) for copies in by_class.values())
        yield told.fault("two_classes", rows[0], f"has several classes: {', '.join(names)}")


class _Told:
    """Boxes as text."""

    def __init__(self, table: BoxTable, xyxy: np.ndarray) -> None:
        self._table, self._xyxy, self._names = table, xyxy, table.labels.names

    def name(self, row: int) -> str:
        slot = int(self._table.slots[row])
        return self._names.get(slot, str(slot))

    def size(self, row: int) -> str:
        image = self._table.image[row]
        return f"{self._table.widths[image]}x{self._table.heights[image]}"

    def fault(self, kind: str, row: int, problem: str) -> Fault:
        image = str(self._table.file_names[self._table.image[row]])
        x, y, w, h = (float(value) for value in self._table.boxes_xywh[row])
        message = f"{self._table.source}: {image}: the box x {x:g}, y {y:g}, w {w:g}, h {h:g} of class {self.name(row)}"
        left, top, right, bottom = (float(value) for value in self._xyxy[row])
        return Fault(kind, self._table.source, f"{message} {problem}", image=image, box=(left, top, right, bottom))
