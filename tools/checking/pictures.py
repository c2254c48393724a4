"""Pictures of faults: a grid for each kind that can be seen."""

from collections.abc import Sequence

import cv2
import numpy as np

from ...datasets.annotations.faults import Fault
from ...datasets.checking.check import Checked, Finding
from ...datasets.checking.contents import Contents, Picture
from ...datasets.images.decode import decode_image, decode_mask
from ...datasets.labels import IGNORE
from ...datasets.mask_folder import UNKNOWN
from ..drawing import annotate
from ..drawing.pictures import shrink

_CELL, _COLUMNS = 360, 4  # longer side in pixels; pictures per row
_RED = (214, 39, 40)
_UNSEEN = ("missing", "unreadable", "empty_file", "undecodable", "bomb", "crash", "mislabelled", "missing_mask")
_WITH_MASK = ("mask_size", "unknown_label", "all_ignored", "instances", "mask_type", "damaged", "truncated")
_MARGIN = 0.5  # of the image's sides: show at most this much outside the image
_TINY = 12.0  # show this many box sides around a tiny box


def fault_grids(checked: Checked, *, examples: int) -> dict[str, np.ndarray]:
    """One uint8 RGB picture for each kind that can be drawn, with at most `examples` findings."""
    places = {split: {p.name: p for p in contents.pictures} for split, contents in checked.contents.items()}
    grids = {}
    for kind, findings in checked.by_kind().items():
        cells: list[np.ndarray] = []
        for finding in findings if kind not in _UNSEEN else []:
            if len(cells) == examples:
                break
            cells += _cells(finding, places, checked)
        if cells:
            grids[kind] = annotate.grid(cells, _COLUMNS)
    return grids


def _cells(finding: Finding, places: dict[str, dict[str, Picture]], checked: Checked) -> list[np.ndarray]:
    fault = finding.fault
    split = finding.split or _split_of(fault, places)
    picture = places.get(split, {}).get(fault.image)
    if picture is None:
        return []
    try:
        panels = _panels(fault, picture, checked.contents[split])
    except (ValueError, OSError):  # an image that cannot be decoded
        return []
    cell = panels[0] if len(panels) == 1 else annotate.grid(panels, len(panels))
    return [annotate.draw_caption(cell, [fault.image[-60:]], enlarge=True)]


def _split_of(fault: Fault, places: dict[str, dict[str, Picture]]) -> str:
    for split, pictures in places.items():
        if fault.image in pictures and pictures[fault.image].path == fault.path:
            return split
    return ""


def _panels(fault: Fault, picture: Picture, contents: Contents) -> Sequence[np.ndarray]:
    image = decode_image(picture.path)
    if fault.box is not None:
        return [_with_box(image, fault)]
    if fault.other:
        return [shrink(image, _CELL), shrink(decode_image(fault.other), _CELL)]
    if fault.kind in _WITH_MASK and picture.mask and contents.values is not None:
        return [shrink(image, _CELL), shrink(_mask_picture(picture.mask, contents), _CELL)]
    return [shrink(image, _CELL)]


def _with_box(image: np.ndarray, fault: Fault) -> np.ndarray:
    """The image with the box, extended to show a box outside it; for a tiny box, only its surroundings."""
    assert fault.box is not None
    height, width = image.shape[:2]
    limits = np.array([width, height, width, height], float)
    x1, y1, x2, y2 = np.clip(fault.box, -_MARGIN * limits, (1 + _MARGIN) * limits)
    if fault.kind == "box_tiny":
        reach = max(_TINY * max(x2 - x1, y2 - y1), 40.0)
        left, top, right, bottom = x1 - reach, y1 - reach, x2 + reach, y2 + reach
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    else:
        left, top, right, bottom = min(x1, 0), min(y1, 0), max(x2, width), max(y2, height)
    left, top, right, bottom = int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom))
    sheet = np.full((bottom - top, right - left, 3), 225, np.uint8)
    inner = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    y, x = max(-top, 0), max(-left, 0)
    sheet[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    scale = _CELL / max(sheet.shape[:2])
    size = max(1, round(sheet.shape[1] * scale)), max(1, round(sheet.shape[0] * scale))
    picture = cv2.resize(sheet, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    corners = (np.array([x1 - left, y1 - top, x2 - left, y2 - top]) * scale).round().astype(int)
    for color, width in ((annotate.PAPER, 5), (_RED, 3)):
        x1, y1, x2, y2 = (corners + np.array([-2, -2, 2, 2])).tolist()
        cv2.rectangle(picture, (x1, y1), (x2, y2), color, width, cv2.LINE_AA)
    return picture


def _mask_picture(path: str, contents: Contents) -> np.ndarray:
    """A mask in its classes' colors, values of no class in red; a file of another type unchanged."""
    try:
        assert contents.values is not None
        slots = cv2.LUT(decode_mask(path, contents.colors), contents.values)
    except ValueError:
        return decode_image(path)
    colors = {**annotate.class_colors(contents.labels), UNKNOWN: _RED, IGNORE: annotate.GREY}
    table = np.array([colors.get(slot) or annotate.GREY for slot in range(256)], np.uint8)
    return table[np.asarray(slots, np.int64)]
