"""Checks masks and instance-id pictures."""

import cv2
import numpy as np

from ...words import counted
from ..annotations.faults import Tell
from ..images.decode import mask_from_bytes
from ..images.headers import check_picture
from ..images.label_colors import ColorTable
from ..labels import IGNORE
from ..mask_folder import UNKNOWN
from .decoding import overheard
from .file_kinds import content_kind

_MAX_TOLD = 8  # values
_IDS_A_CLASS = 1000  # an instance file contains class * 1000 + number, or only the class


def examine_mask(
    data: bytes, path: str, values: np.ndarray, colors: ColorTable | None, report: Tell
) -> np.ndarray | None:
    """The slots of a mask, uint8 [H, W]; None if it is not a mask. Values that belong to no class become 255."""
    stored, complaint = overheard(lambda: mask_from_bytes(np.frombuffer(data, np.uint8), path, colors))
    if isinstance(stored, Exception):
        as_picture = _as_stored(data, path)
        kind = "mask_type" if isinstance(as_picture, np.ndarray) else "undecodable"
        report(kind, " ".join(str(stored).split()))
        return None
    if content_kind(data) == "JPEG":
        report("mask_type", f"{path} is a JPEG: lossy compression changes class indices along edges")
    if "error" in complaint.lower():
        report("damaged", f"{path} is corrupt: {complaint.splitlines()[0]}")
    slots = cv2.LUT(stored, values)
    counts = np.bincount(stored.ravel(), minlength=256)
    unknown = [value for value in np.flatnonzero(counts).tolist() if values[value] == UNKNOWN]
    if unknown:
        told = ", ".join(f"{value} ({counted(int(counts[value]), 'pixel')})" for value in unknown[:_MAX_TOLD])
        more = f" and {len(unknown) - _MAX_TOLD} more" if len(unknown) > _MAX_TOLD else ""
        report("unknown_label", f"{path} contains values that belong to no class: {told}{more}")
        slots = np.where(slots == UNKNOWN, np.uint8(IGNORE), slots)
    elif (slots == IGNORE).all():
        report("all_ignored", f"all pixels of {path} are ignored: nothing can be learned from the image")
    return slots


def _as_stored(data: bytes, path: str) -> np.ndarray | None:
    """Whatever a file contains; None if it is not a picture, or could exhaust memory."""
    content = np.frombuffer(data, np.uint8)

    def decoded() -> np.ndarray | None:
        check_picture(content, path)
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)

    found, _ = overheard(decoded)
    return found if isinstance(found, np.ndarray) else None


def examine_instances(data: bytes, path: str, slots: np.ndarray, values: np.ndarray, report: Tell) -> None:
    """Check that instance ids match the labels in size, and in class where both have one."""
    ids = _as_stored(data, path)
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
        what = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, np.ndarray) else "nothing that can be decoded"
        report("instances", f"{path} contains {what}: expected instance ids, one channel of 16 bits")
        return
    if ids.shape != slots.shape:
        height, width = ids.shape
        told = f"{path} is {width}x{height} (width x height), but its labels are {slots.shape[1]}x{slots.shape[0]}"
        report("instances", told)
        return
    classes = np.where(ids >= _IDS_A_CLASS, ids // _IDS_A_CLASS, ids)
    theirs = values[np.minimum(classes, 255)]
    wrong = (theirs != slots) & (theirs < UNKNOWN) & (slots < UNKNOWN)
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        report(
            "instances",
            f"{path} contradicts the labels in {counted(int(wrong.sum()), 'pixel')}, the first at x {x}, y {y}: "
            f"id {ids[y, x]} is of class {theirs[y, x]}, but the mask says {slots[y, x]}",
        )
