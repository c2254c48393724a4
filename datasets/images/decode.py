"""Decodes image and mask files, with errors that name the file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .headers import JPEG_SIGNATURE, check_bytes, check_picture, heif_kind, opened_by_pil, png_header
from .label_colors import ColorTable
from .mask_values import class_indices, highest_gray, is_tiff, may_have_palette, unscaled

_PNG_ALPHA = (4, 6)
_BITS_PER_SAMPLE = 258  # TIFF's tag
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # follows EXIF like IMREAD_COLOR, but keeps 16 bits
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def decode_image(path: str | Path, *, reduction: int = 1) -> np.ndarray:
    """The picture as uint8 [H, W, 3] RGB, rotated upright by its EXIF orientation.

    With a `reduction` of 2, 4 or 8 a JPEG is decoded at 1/2, 1/4 or 1/8 of its size (rounded up), each pixel the mean
    of those it replaces. Other formats are decoded at full size.

    Gray, palette and CMYK become RGB, deeper pixels are scaled (`to_uint8`), and transparency is composited over
    white.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is empty, cannot be decoded, could exhaust memory (`headers.check_picture`), or contains
            invalid brightness values.
    """
    return decode_bytes(_read_bytes(path, "image"), name=path, reduction=reduction)


def decode_bytes(data: bytes | np.ndarray, *, name: str | Path = "the data", reduction: int = 1) -> np.ndarray:
    """`decode_image` of a file's content; `name` is used in errors."""
    data = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    if not data.size:
        raise ValueError(f"{name} is empty: expected an image")
    check_picture(data, name)
    if (kind := heif_kind(data[:256].tobytes())) and (image := _turned(data, name, kind)) is not None:
        return image
    if _may_be_transparent(data, name) and (image := _over_white(data, name)) is not None:
        return image
    flags = cv2.IMREAD_UNCHANGED if is_tiff(data) else _COLOR  # floats too
    if reduction > 1 and data[:2].tobytes() == JPEG_SIGNATURE:
        flags = _REDUCED[reduction]
    image = _decode(data, flags, name)
    image = to_uint8(image, name=name)
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def to_uint8(image: np.ndarray, *, name: str | Path = "the image") -> np.ndarray:
    """Brightness in 0..255 from uint8, uint16 (0..65535, or 0..4095 if no value is larger), or float (0..1).

    Cameras store 12 bits in 16: without this rule their pictures would be black.

    Raises:
        ValueError: another type, or floats outside 0..1.
    """
    image = image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        full = 4095 if image.max(initial=0) <= 4095 else 65535
        return np.rint(image * np.float32(255 / full)).astype(np.uint8)
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"{name} contains {image.dtype}: expected uint8, uint16, or float from 0 to 1")
    low, high = float(image.min(initial=0)), float(image.max(initial=0))
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise ValueError(
            f"{name} contains {image.dtype} from {low:g} to {high:g}: expected floats from 0 to 1 "
            "(not normalized: the model does that), or uint8"
        )
    return np.rint(image.astype(np.float32) * 255).astype(np.uint8)


def _may_be_transparent(data: np.ndarray, name: str | Path) -> bool:
    if data[:2].tobytes() == JPEG_SIGNATURE:
        return False
    if header := png_header(data):
        return header.color_type in _PNG_ALPHA or b"tRNS" in data[: 1 << 16].tobytes()
    image = _decode(data, cv2.IMREAD_UNCHANGED, name)
    return image.ndim == 3 and image.shape[2] == 4


def _turned(data: np.ndarray, name: str | Path, kind: str) -> np.ndarray | None:
    """A HEIC, or an AVIF that its header turns or mirrors, which OpenCV would not; None for another AVIF."""
    from PIL import ImageOps

    def upright(picture: Any) -> np.ndarray | None:
        if kind == "AVIF" and picture.getexif().get(0x0112, 1) == 1:
            return None
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))

    opaque = _by_pil(data, name, upright)
    return opaque if opaque is None or (over := _over_white(data, name)) is None else over


def _over_white(data: np.ndarray, name: str | Path) -> np.ndarray | None:
    """A transparent picture over white; None if it is opaque, or if its alpha is unused (all zero)."""
    from PIL import Image, ImageOps  # cv2 supports neither all kinds of transparency nor EXIF with it

    picture = _by_pil(data, name, lambda picture: ImageOps.exif_transpose(picture).convert("RGBA"))
    low, high = picture.getchannel("A").getextrema()
    if low == 255 or high == 0:
        return None
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


def decode_mask(path: str | Path, colors: ColorTable | None = None) -> np.ndarray:
    """The class indices of a mask as uint8 [H, W], exactly as stored; `colors` maps masks with three channels.

    With a palette, the palette indices are the class indices, whatever the colors.
    """
    return mask_from_bytes(_read_bytes(path, "label file"), path, colors)


def mask_from_bytes(data: np.ndarray, path: str | Path, colors: ColorTable | None = None) -> np.ndarray:
    """`decode_mask` of a file's bytes; `path` is for messages."""
    check_picture(data, path)
    bits = 8
    if may_have_palette(data):
        bits, indices = _palette_indices(data, path)
        if indices is not None and (colors is None or png_header(data)):
            return indices
    mask = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if mask.ndim == 3:
        if mask.shape[2] == 4 and (mask[..., :3] == mask[0, 0, :3]).all() and (mask[..., 3] != mask[0, 0, 3]).any():
            raise ValueError(
                f"{path} differs in its transparency alone: expected classes as numbers or colors. Remedy: paint the "
                "background in its own color and save the picture without transparency"
            )
        if colors is not None and mask.dtype == np.uint8:
            return colors.numbers(mask[..., 2::-1], path)
        if (mask[..., :1] != mask[..., :3]).any():
            raise ValueError(
                f"{path} has {mask.shape[2]} color channels: expected one channel of class indices. "
                "Remedy: add the classes' colors to the class list (columns r, g, b), or convert them to class indices"
            )
        mask = np.ascontiguousarray(mask[..., 0])
    return unscaled(class_indices(mask, path), highest_gray(data, bits))


def _palette_indices(data: np.ndarray, path: str | Path) -> tuple[int, np.ndarray | None]:
    """The bits of each channel, and the indices of a picture with a palette of colors."""

    def indices(picture: Any) -> tuple[int, np.ndarray | None]:
        bits = 1 if picture.mode == "1" else getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))[0]
        if picture.mode != "P":
            return bits, None
        found, palette = np.array(picture), np.array(picture.getpalette()).reshape(-1, 3)
        used = palette[np.unique(found[found < len(palette)])]
        is_gray = not png_header(data) and (used == used[:, :1]).all()  # then the levels of gray are the indices
        return bits, None if is_gray else found

    try:
        return _by_pil(data, path, indices)
    except ValueError:  # PIL knows fewer kinds of TIFF
        if png_header(data):
            raise
        return 8, None


def decode_instances(path: str | Path) -> np.ndarray:
    """The instance ids of a 16-bit (or 8-bit) picture as uint16 [H, W]."""
    data = _read_bytes(path, "instance file")
    check_picture(data, path)
    ids = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{path} contains {ids.dtype} {list(ids.shape)}: expected instance ids, one channel of 16 bits"
        )
    return ids.astype(np.uint16, copy=False)


def check_size(size: tuple[int, int], expected: tuple[int, int], *, path: str | Path, source: str | Path) -> None:
    """Raise ValueError if a decoded size (h, w) contradicts the annotation: every box or label would be misplaced."""
    if size == expected:
        return
    hint = " Remedy: correct the size in the annotation, or resize the mask to its image with nearest neighbor."
    if size == expected[::-1]:
        hint = (
            " The sides are swapped: probably the annotations were made without applying the picture's EXIF"
            " orientation. Remedy: remove or apply that EXIF tag (and make the annotations match)."
        )
    raise ValueError(
        f"{path} decodes to {size[1]}x{size[0]} (width x height), but {source} says {expected[1]}x{expected[0]}.{hint}"
    )


def _read_bytes(path: str | Path, what: str) -> np.ndarray:
    # Not cv2.imread: on Windows it cannot open names outside the local code page and only prints a warning.
    try:
        check_bytes(os.stat(path).st_size, path)
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{what} not found: {path}") from error
    if not data.size:
        raise ValueError(f"{path} is empty: expected {'an ' if what[0] in 'aeiou' else 'a '}{what}")
    return data


def _decode(data: np.ndarray, flags: int, path: str | Path) -> np.ndarray:
    problem = "corrupt, truncated, or not a picture"
    # Our error reports it with the file's name.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:  # such as too many pixels
        image, problem = None, " ".join(error.err.split())
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise ValueError(f"{path} cannot be decoded: {problem}")
    return image


def _by_pil(data: np.ndarray, path: str | Path, convert: Callable[[Any], Any]) -> Any:
    """`convert` of the picture opened with PIL, whose size was checked."""
    try:
        with opened_by_pil(data.data) as picture:
            return convert(picture)
    except Exception as error:  # of a dozen kinds for corrupt files
        raise ValueError(f"{path} cannot be decoded: {error}") from error
