"""Reading image and mask files, with errors that name the file."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GRAY, _PNG_PALETTE = 0, 3


def decode_image(path: str | Path) -> np.ndarray:
    """The picture as uint8 [H, W, 3] RGB, turned upright as its EXIF says."""
    image = _decode(_read_bytes(path, "image"), cv2.IMREAD_COLOR, path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def decode_mask(path: str | Path) -> np.ndarray:
    """The class numbers of a label picture as uint8 [H, W], exactly as stored."""
    return mask_from_bytes(_read_bytes(path, "label file"), path)


def mask_from_bytes(data: np.ndarray, path: str | Path) -> np.ndarray:
    """`decode_mask` of a file's bytes; `path` is for messages."""
    header = png_header(data)
    bit_depth, color_type = (header.bit_depth, header.color_type) if header else (8, -1)
    if color_type == _PNG_PALETTE:  # cv2 would give the palette's colours; a label file means the indices
        return _palette_indices(data, path)
    mask = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if mask.ndim == 3:
        if (mask[..., :1] != mask[..., :3]).any():
            raise ValueError(
                f"{path} has {mask.shape[2]} channels of colour: expected one channel that holds class numbers. "
                "Remedy: convert colours to class numbers first"
            )
        mask = np.ascontiguousarray(mask[..., 0])
    if color_type == _PNG_GRAY and bit_depth < 8:
        mask = mask // (255 // (2**bit_depth - 1))  # the decoder stretches small grey values to 0..255
    if mask.dtype != np.uint8:
        if mask.min() < 0 or mask.max() > 255:
            raise ValueError(
                f"{path} holds {mask.dtype} values up to {mask.max()}: expected class numbers 0 to 255 "
                "(is it an instance file?)"
            )
        mask = mask.astype(np.uint8)
    return mask


def decode_instances(path: str | Path) -> np.ndarray:
    """The instance ids of a picture with 16 bits (or 8) as uint16 [H, W]."""
    ids = _decode(_read_bytes(path, "instance file"), cv2.IMREAD_UNCHANGED, path)
    if ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path} holds {ids.dtype} {list(ids.shape)}: expected instance ids, one channel of 16 bits")
    return ids.astype(np.uint16, copy=False)


def check_size(size: tuple[int, int], expected: tuple[int, int], *, path: str | Path, source: str | Path) -> None:
    """A decoded size (h, w) that contradicts the annotation is an error: every box or label would be misplaced."""
    if size == expected:
        return
    hint = ""
    if size == expected[::-1]:
        hint = (
            " The sides are swapped: probably the annotations were made on a picture that was not turned as its EXIF"
            " orientation says. Remedy: remove or apply that EXIF tag (and make the annotations agree)."
        )
    raise ValueError(
        f"{path} decodes to {size[1]}x{size[0]} (width x height), but {source} says {expected[1]}x{expected[0]}.{hint}"
    )


def _read_bytes(path: str | Path, what: str) -> np.ndarray:
    # Not cv2.imread: it does not open names outside of the local code page on Windows and only prints a warning.
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{what} not found: {path}") from error
    if not data.size:
        raise ValueError(f"{path} is empty: expected {'an ' if what[0] in 'aeiou' else 'a '}{what}")
    return data


def _decode(data: np.ndarray, flags: int, path: str | Path) -> np.ndarray:
    problem = "it is damaged, cut short, or not a picture"
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:  # too many pixels, for one
        image, problem = None, str(error)
    if image is None:
        raise ValueError(f"{path} does not decode: {problem}")
    return image


class PngHeader(NamedTuple):
    """What a PNG says of itself in its first 26 bytes."""

    size: tuple[int, int]  # h, w
    bit_depth: int
    color_type: int


def png_header(data: np.ndarray) -> PngHeader | None:
    """The header of a PNG's bytes, None for anything that is none."""
    head = data[:26].tobytes()
    if not head.startswith(_PNG_SIGNATURE) or len(head) < 26:
        return None
    width, height = (int.from_bytes(head[start : start + 4], "big") for start in (16, 20))
    return PngHeader((height, width), head[24], head[25])


def _palette_indices(data: np.ndarray, path: str | Path) -> np.ndarray:
    import io

    from PIL import Image

    try:
        return np.asarray(Image.open(io.BytesIO(data.tobytes())))
    except OSError as error:
        raise ValueError(f"{path} does not decode: {error}") from error
