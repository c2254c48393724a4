"""Reads picture sizes from headers, so that a file that could exhaust memory is rejected before it is decoded."""

import importlib
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_PIXELS_VARIABLE = "POCKETVISION_MAX_PIXELS"
_MAX_PIXELS = 178_956_970  # the same limit as PIL's for decompression bombs
_BYTES_PER_PIXEL = 8  # at most: four channels of 16 bits
_MAX_SCANS = 100  # of a progressive JPEG; encoders usually write about ten, each costs a pass over the whole picture
_SCAN, END_OF_IMAGE = b"\xff\xda", 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a segment; the others belong to a scan's data

_PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIC_BRANDS, _BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), 256
_BARE_MARKERS = (0x01, 0xD8, END_OF_IMAGE)  # of a JPEG: no data follows them
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # in the range of frame headers, but not frame headers
_MULTI_SCAN = (0xC2, 0xC6, 0xCA, 0xCE)  # progressive


class PngHeader(NamedTuple):
    """The header of a PNG, from its first 26 bytes."""

    size: tuple[int, int]  # h, w
    bit_depth: int
    color_type: int


def png_header(data: np.ndarray) -> PngHeader | None:
    """The header of a PNG's bytes; None for anything else."""
    head = data[:26].tobytes()
    if not head.startswith(_PNG_SIGNATURE) or len(head) < 26:
        return None
    width, height = struct.unpack_from(">II", head, 16)
    return PngHeader((height, width), head[24], head[25])


def check_picture(data: np.ndarray, name: str | Path) -> None:
    """Reject a file (uint8 [N]) whose decoding could take all memory or hours. Takes some microseconds.

    Raises:
        ValueError: more pixels than the limit, a progressive JPEG with very many scans, or the size is unknown.
    """
    if heif_kind(data[:_BRANDS].tobytes()) == "HEIC":
        _open_heic(name)
    size = picture_size(data)
    if size is None or not _png_chunks_fit(data):
        raise ValueError(f"{name} cannot be decoded: corrupt, truncated, or not a picture")
    height, width = size
    if height * width > (limit := max_pixels()):
        raise ValueError(
            f"{name} declares {width}x{height} pixels, {height * width / 1e6:.0f} million: more than the limit of "
            f"{limit / 1e6:.0f} million, decoding it could exhaust memory. If this is intended: "
            f"{MAX_PIXELS_VARIABLE}={height * width}"
        )
    if data[:2].tobytes() == JPEG_SIGNATURE and (scans := _num_scans(data)) > _MAX_SCANS:
        raise ValueError(
            f"{name} is a JPEG with {scans} scans, more than the limit of {_MAX_SCANS}: decoding it could take hours. "
            "Remedy: save it again as a baseline JPEG"
        )


def heif_kind(head: bytes) -> str:
    """AVIF or HEIC, by the first bytes (the brands that an ISO media file names); empty for anything else."""
    if head[4:8] != b"ftyp":
        return ""
    brands = head[8 : int.from_bytes(head[:4], "big")]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIC" if any(brand in brands for brand in _HEIC_BRANDS) else ""


def _open_heic(name: str | Path) -> None:
    """Let PIL read HEIC.

    Raises:
        ValueError: the package for it is missing.
    """
    for package in ("pi_heif", "pillow_heif"):
        try:
            importlib.import_module(package).register_heif_opener()
        except ImportError:
            continue
        return
    raise ValueError(
        f"{name} is a HEIC picture. Remedy: pip install 'pocketvision[heic]' (pi-heif), or save it as a JPEG"
    )


def check_bytes(count: int, name: str | Path) -> None:
    """Refuse to read a file that is larger than any picture within the limit.

    Raises:
        ValueError: it has more bytes.
    """
    if count > (limit := max_pixels() * _BYTES_PER_PIXEL):
        raise ValueError(
            f"{name} has {count:,} bytes, more than any picture within the pixel limit ({limit:,}): if it is a "
            f"picture, raise {MAX_PIXELS_VARIABLE}"
        )


def max_pixels() -> int:
    """The limit, or the environment variable that overrides it.

    Raises:
        ValueError: the variable is not a positive integer.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return _MAX_PIXELS
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(
            f"{MAX_PIXELS_VARIABLE}={text}: expected the maximum number of pixels of a picture, a positive integer"
        )
    return int(text)


def picture_size(data: np.ndarray) -> tuple[int, int] | None:
    """(h, w) from a file's header (uint8 [N]), by its signature; None if the header is not understood."""
    head = data[:32].tobytes()
    try:
        if head.startswith(JPEG_SIGNATURE):
            frame = _jpeg_frame(data)
            return frame and frame[1:]
        if header := png_header(data):
            return header.size
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":  # PIL would allocate the whole picture
            return _webp_size(head)
        if head[:4] in TIFF_SIGNATURES:  # PIL rejects kinds of pixels that OpenCV decodes
            return _tiff_size(data.data)
        if head.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", head, 6)
        elif head.startswith(b"BM"):  # as of TIFF
            old = struct.unpack_from("<I", head, 14)[0] == 12
            width, height = struct.unpack_from("<HH" if old else "<ii", head, 18)
        else:
            return _size_by_pil(data)
    except (struct.error, ValueError, OverflowError):
        return None
    return abs(height), abs(width)  # a top-down BMP has a negative height


def _jpeg_frame(data: np.ndarray) -> tuple[int, int, int] | None:
    """(marker, h, w) of the first frame header."""
    for marker, position in jpeg_markers(data.data):
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            return (marker, *struct.unpack_from(">HH", data.data, position + 3)) if position + 7 <= len(data) else None
    return None


def jpeg_markers(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """(marker, first byte behind it) of a JPEG's segments, found the way libjpeg looks for them."""
    position = 2
    while found := _MARKER.search(data, position):  # stray bytes, padding and a scan's data are skipped
        marker, position = data[found.end() - 1], found.end()
        yield marker, position
        if marker not in _BARE_MARKERS:
            if position + 2 > len(data):
                return
            position += struct.unpack_from(">H", data, position)[0]


def _num_scans(data: np.ndarray) -> int:
    """Scans of a progressive JPEG; 1 for others, which are read in one pass or not at all."""
    frame = _jpeg_frame(data)
    if frame is None or frame[0] not in _MULTI_SCAN:
        return 1
    rough = data.tobytes().count(_SCAN)  # the same bytes can occur in what follows the picture, such as a video
    if rough <= _MAX_SCANS:
        return rough
    scans = 0
    for marker, _ in jpeg_markers(data.data):
        if marker == END_OF_IMAGE:
            break
        scans += marker == _SCAN[1]
    return scans


def _png_chunks_fit(data: np.ndarray) -> bool:
    """Whether no chunk of a PNG declares more bytes than exist: OpenCV would allocate that memory, up to 4 GB."""
    view = data.data
    return view[:8] != _PNG_SIGNATURE or all(start + length + 4 <= len(view) for _, start, length in png_chunks(view))


def png_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte of the content, length) of a PNG's chunks up to its IEND; the last may exceed the file."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, length
        if kind == b"IEND":
            break
        position += 12 + length


def _tiff_size(view: memoryview) -> tuple[int, int]:
    """The tags 257 and 256 of the first directory, the one that decoders read."""
    order = "<" if view[0] == ord("I") else ">"
    big = 43 in (view[2], view[3])
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", view, 8 if big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", view, start)[0]
    found = {}
    for entry in range(min(count, 4096)):
        position = start + (8 + 20 * entry if big else 2 + 12 * entry)
        tag, kind = struct.unpack_from(f"{order}HH", view, position)
        if tag in (256, 257) and tag not in found:
            value = {1: "B", 3: "H", 16: "Q"}.get(kind, "I")
            found[tag] = struct.unpack_from(f"{order}{value}", view, position + (12 if big else 8))[0]
    if len(found) < 2:
        raise ValueError("a TIFF without width and height")
    return found[257], found[256]


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[27:30], "little"), 1 + int.from_bytes(head[24:27], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return height & 0x3FFF, width & 0x3FFF


def _size_by_pil(data: np.ndarray) -> tuple[int, int] | None:
    """The size in a rarer format, for which 0.2 ms do not matter."""
    try:
        with opened_by_pil(data.data) as picture:
            return picture.height, picture.width
    except Exception:  # of half a dozen kinds
        return None


@contextmanager
def opened_by_pil(data: bytes | memoryview) -> Iterator[Any]:
    """A picture of any size, without warnings: our own limit applies, and the decoder reports what is corrupt."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit
