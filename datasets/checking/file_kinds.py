"""Identifies a file by its content, and whether it is complete."""

import re
import struct
import zlib
from pathlib import Path

from ..images.headers import END_OF_IMAGE, heif_kind, jpeg_markers, png_chunks

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "PDF document"),
    (b"PK\3\4", "zip archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"version https://git-lfs", "Git LFS pointer: run `git lfs pull`"),
)
_ENDINGS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
    ".webp": "WebP", ".ppm": "PNM", ".pgm": "PNM", ".pbm": "PNM", ".pnm": "PNM", ".jpe": "JPEG", ".jfif": "JPEG",
    ".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC",
}  # fmt: skip


def content_kind(data: bytes) -> str:
    """The format by the first bytes; empty if unknown."""
    head = data[:512]
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return heif_kind(head) or "video"
    if re.match(rb"P[1-6]\s", head):
        return "PNM"
    if re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE):
        return "web page (a download that failed?)"
    return ""


def ending_kind(path: str) -> str:
    """The format that a file's extension promises; empty for extensions other than pictures'."""
    return _ENDINGS.get(Path(path).suffix.lower(), "")


def is_picture(kind: str) -> bool:
    """Whether a kind of content is a picture format with its own extensions."""
    return kind in _ENDINGS.values()


def incomplete(data: bytes) -> str:
    """What is missing at the end of a JPEG or PNG; empty if nothing is missing or it is unknown.

    Decoders do not report it: OpenCV fills the missing part of a JPEG with gray.
    """
    kind = content_kind(data)
    if kind == "JPEG":
        # Thumbnails inside segments have ends of their own.
        ends = any(marker == END_OF_IMAGE for marker, _ in jpeg_markers(data))
        return "" if ends else "its end-of-image marker is missing"
    if kind == "PNG":
        return "" if b"IEND" in data[-64:] or _png_chunks(data)[0] else "its IEND chunk is missing"
    return ""


def broken_chunk(data: bytes) -> str:
    """The first chunk of a PNG with a wrong checksum; empty if there is none."""
    return _png_chunks(data)[1] if content_kind(data) == "PNG" else ""


def _png_chunks(data: bytes) -> tuple[bool, str]:
    """Whether a PNG has its end, and its first chunk with a wrong checksum."""
    wrong = ""
    for kind, start, length in png_chunks(data):
        end = start + length
        if end + 4 > len(data):
            return False, wrong
        (promised,) = struct.unpack_from(">I", data, end)
        if not wrong and zlib.crc32(data[start - 4 : end]) != promised:
            wrong = kind.decode("latin-1")
        if kind == b"IEND":
            return True, wrong
    return False, wrong
