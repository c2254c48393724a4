"""Class indices as a mask file stores them: decoders scale few gray levels to 0..255 and replace palettes by colors."""

import re
from pathlib import Path

import numpy as np

from .headers import TIFF_SIGNATURES, png_header

PNG_GRAY, PNG_PALETTE = 0, 3  # color types with one channel
_ASCII_GRAY = re.compile(rb"P2(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)")
_BIT_PICTURES = (b"P1", b"P4")  # PBM


def may_have_palette(data: np.ndarray) -> bool:
    """Whether a file's palette, if it has one, holds the class indices: PNG, TIFF and BMP keep them, GIF does not."""
    header = png_header(data)
    return header.color_type == PNG_PALETTE if header else data[:2].tobytes() == b"BM" or is_tiff(data)


def is_tiff(data: np.ndarray) -> bool:
    return data[:4].tobytes() in TIFF_SIGNATURES


def highest_gray(data: np.ndarray, tiff_bits: int = 8) -> int:
    """The value that the decoder turned into 255: 1 for black and white, less than 255 for few levels of gray."""
    if header := png_header(data):
        return 2**header.bit_depth - 1 if header.color_type == PNG_GRAY and header.bit_depth < 8 else 255
    if is_tiff(data):
        return 2**tiff_bits - 1 if tiff_bits < 8 else 255
    if data[:3].tobytes() == b"GIF":
        return 1 if data[10] & 0x87 == 0x80 else 255  # a palette of two colors
    if (kind := data[:2].tobytes()) in _BIT_PICTURES or (kind == b"BM" and _bmp_bits(data) == 1):
        return 1
    found = _ASCII_GRAY.match(data[:4096].tobytes()) if kind == b"P2" else None
    return min(255, int(found[1])) if found else 255


def _bmp_bits(data: np.ndarray) -> int:
    old = int.from_bytes(data[14:18].tobytes(), "little") == 12
    place = 24 if old else 28
    return int.from_bytes(data[place : place + 2].tobytes(), "little")


def unscaled(mask: np.ndarray, highest: int) -> np.ndarray:
    """The stored values 0..`highest` of gray values from 0 to 255."""
    if not 0 < highest < 255:
        return mask
    if highest == 1:  # two other grays of a palette stay as they are
        return mask if ((mask != 0) & (mask != 255)).any() else mask // 255
    return np.ceil(mask * (highest / 255)).astype(np.uint8)


def class_indices(mask: np.ndarray, path: str | Path) -> np.ndarray:
    """A mask of any type as uint8.

    Raises:
        ValueError: it contains something else than whole numbers from 0 to 255.
    """
    if mask.dtype == np.uint8:
        return mask
    with np.errstate(invalid="ignore"):
        wrong = ~((mask >= 0) & (mask <= 255) & (np.rint(mask) == mask))
    if not wrong.any():
        return mask.astype(np.uint8)
    values = mask[wrong].astype(np.float64)
    value = float(values[np.isnan(values).argmax()])  # NaN, if there is one
    if value != value:
        remedy = "write 255, which is ignored, where there is no data"
    elif value > 255:
        remedy = "is it an instance file?"
    else:
        remedy = "write class indices, and 255 for pixels to ignore"
    raise ValueError(
        f"{path} contains {mask.dtype} values up to {np.nanmax(mask):g}, {len(values):,} of them such as {value:g}: "
        f"expected class indices, whole numbers from 0 to 255. Remedy: {remedy}"
    )
