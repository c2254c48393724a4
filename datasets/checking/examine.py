"""Examines one image with its masks for every fault that can be found without other images."""

import hashlib
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..annotations.faults import Fault, Tell
from ..images.decode import decode_bytes
from ..images.headers import check_bytes, max_pixels, picture_size
from ..images.label_colors import ColorTable
from .contents import Picture
from .decoding import overheard
from .file_kinds import broken_chunk, content_kind, ending_kind, incomplete, is_picture
from .masks import examine_instances, examine_mask
from .modes import Mode, mode_of

THUMBNAIL = 16  # cells per side


@dataclass
class Examined:
    """What is kept of an image after the examination: no pixels."""

    faults: list[Fault] = field(default_factory=list)
    size: tuple[int, int] | None = None  # h, w upright; None if it cannot be decoded
    digest: bytes = b""  # of the file's bytes
    thumbnail: bytes = b""  # THUMBNAIL x THUMBNAIL gray levels of the decoded picture
    pixels: dict[int, int] = field(default_factory=dict)  # of each slot in its mask, 255 included

    def report_of(self, picture: Picture, path: str) -> Tell:
        """A function that adds a fault of one of the picture's files."""
        return lambda kind, message: self.faults.append(Fault(kind, path, message, image=picture.name))


def examine(
    picture: Picture,
    values: np.ndarray | None = None,
    colors: ColorTable | None = None,
    instance_values: np.ndarray | None = None,
) -> Examined:
    """Examine an image and its masks; no file content makes this raise.

    Args:
        values: uint8 [256], the meaning of mask values; `colors` for masks in color.
        instance_values: the same for the classes of instance ids.
    """
    found = Examined()
    try:
        image = _examine_image(picture, found)
        found.size = None if image is None else (image.shape[0], image.shape[1])
        if picture.mask and values is not None:
            _examine_masks(picture, values, colors, instance_values, found)
    except Exception as error:  # whatever a codec raises
        found.faults.append(Fault("undecodable", picture.path, f"{picture.path}: {error!r}", image=picture.name))
    return found


def read_file(path: str, report: Tell) -> bytes:
    """A file's bytes; none after `report` got the reason."""
    try:
        count = os.stat(path).st_size
        try:
            check_bytes(count, path)
        except ValueError as error:
            report("bomb", str(error))
            return b""
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        report("missing", f"{path} does not exist{_other_spelling(path)}")
        return b""
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        report("unreadable", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
        return b""
    if not data:
        report("empty_file", f"{path} is empty")
    return data


def check_file(data: bytes, path: str, report: Tell) -> bool:
    """Check a file's bytes before decoding; returns whether it may be decoded."""
    kind, promised = content_kind(data), ending_kind(path)
    if is_picture(kind) and promised and kind != promised:
        report("mislabelled", f"{path} is a {kind}, but its extension says {promised}")
    if problem := incomplete(data):
        report("truncated", f"{path} is truncated: {problem}")
    elif chunk := broken_chunk(data):
        report("damaged", f"{path} is corrupt: the checksum of its {chunk} chunk is wrong")
    size = picture_size(np.frombuffer(data, np.uint8))
    if size and size[0] * size[1] > max_pixels():
        report("bomb", f"{path} declares {size[1]}x{size[0]} pixels, more than {max_pixels() / 1e6:.0f} million")
        return False
    return True


def _examine_image(picture: Picture, found: Examined) -> np.ndarray | None:
    path = picture.path
    report = found.report_of(picture, path)
    data = read_file(path, report)
    if not data:
        return None
    found.digest = hashlib.sha256(data).digest()[:16]
    if not check_file(data, path, report):
        return None
    image, complaint = overheard(lambda: decode_bytes(data, name=path))
    if isinstance(image, Exception):
        kind = content_kind(data)
        what = f" (its content is a {kind})" if kind and kind != ending_kind(path) else ""
        if not any(fault.kind == "truncated" for fault in found.faults):
            report("undecodable", f"{_one_line(image, path)}{what}")
        return None
    known = {fault.kind for fault in found.faults}
    if "premature end" in complaint.lower() and "truncated" not in known:
        report("truncated", f"{path} ends too early: {complaint.splitlines()[0]}")
    elif "corrupt" in complaint.lower() and not known & {"truncated", "damaged"}:
        report("damaged", f"{path} is corrupt: {complaint.splitlines()[0]}")
    mode = mode_of(data)
    for kind, message in mode.notes:
        report(kind, f"{path} {message}")
    if picture.size is not None:
        _check_size(picture, (image.shape[0], image.shape[1]), mode, report)
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (THUMBNAIL,) * 2, interpolation=cv2.INTER_AREA)
    found.thumbnail = small.tobytes()
    return image


def _check_size(picture: Picture, size: tuple[int, int], mode: Mode, report: Tell, *, kind: str = "wrong_size") -> None:
    expected = picture.size
    assert expected is not None
    told = f"{picture.path} is {size[1]}x{size[0]} (width x height)"
    says = f"{picture.source} says {expected[1]}x{expected[0]}"
    if size == expected:
        if mode.orientation in (2, 3, 4) or (mode.orientation > 4 and size[0] == size[1]):
            report(
                "exif_unclear",
                f"{picture.path} is rotated by EXIF (orientation {mode.orientation}); the sizes do not show whether "
                f"{picture.source} was made on the rotated picture",
            )
    elif mode.orientation > 4 and size == expected[::-1]:
        report("exif_rotation", f"{told} after the rotation that its EXIF specifies ({mode.orientation}), but {says}")
    else:
        report(kind, f"{told}, but {says}")


def _examine_masks(
    picture: Picture,
    values: np.ndarray,
    colors: ColorTable | None,
    instance_values: np.ndarray | None,
    found: Examined,
) -> None:
    path = picture.mask
    report = found.report_of(picture, path)
    data = read_file(path, lambda kind, message: report("missing_mask" if kind == "missing" else kind, message))
    if not data or not check_file(data, path, report):
        return
    slots = examine_mask(data, path, values, colors, report)
    if slots is None:
        return
    counts = np.bincount(slots.ravel(), minlength=256)
    found.pixels = {slot: int(counts[slot]) for slot in np.flatnonzero(counts).tolist()}
    if found.size is not None and slots.shape != found.size:
        of_photo = Picture(picture.name, picture.path, path, (slots.shape[0], slots.shape[1]))
        orientation = mode_of(Path(picture.path).read_bytes())
        _check_size(of_photo, found.size, orientation, report, kind="mask_size")
    if (path := picture.instances) and instance_values is not None:
        report = found.report_of(picture, path)
        data = read_file(path, report)
        if data and check_file(data, path, report):
            examine_instances(data, path, slots, instance_values, report)


def _one_line(error: Exception, path: str) -> str:
    text = " ".join(str(error).split())
    return text if path in text else f"{path}: {text}"


def _other_spelling(path: str) -> str:
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return ": it is a link to nothing"
    same = [other for other in _listing(folder) if other.lower() == name.lower()]
    return f", but {same[0]} does: names are case-sensitive" if same else ""


@lru_cache(maxsize=4)
def _listing(folder: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError:
        return ()
