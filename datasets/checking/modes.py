"""How a picture stores its colors, and its EXIF orientation."""

from dataclasses import dataclass

import numpy as np

from ..images.files import orientation_of
from ..images.headers import JPEG_SIGNATURE, opened_by_pil, png_header


@dataclass(frozen=True)
class Mode:
    """EXIF orientation (1: none), and what is unusual: kinds of fault, each with the rest of a sentence."""

    orientation: int
    notes: tuple[tuple[str, str], ...]


def mode_of(data: bytes) -> Mode:
    """The mode from a file's header; the default where PIL does not know the format."""
    try:
        with opened_by_pil(data) as picture:
            orientation = orientation_of(picture)
            name, transparent = picture.mode, "transparency" in picture.info
    except Exception:  # of a dozen kinds
        return Mode(1, ())
    notes = []
    if name in ("1", "L", "LA") or name.startswith("I;16"):
        notes.append(("grey", "is gray: it becomes RGB with equal channels"))
    if name in ("LA", "RGBA", "PA") or (transparent and not data.startswith(JPEG_SIGNATURE)):
        notes.append(("alpha", "has transparency: it is composited over white"))
    if name == "CMYK":
        notes.append(("cmyk", "is CMYK: it becomes RGB"))
    header = png_header(np.frombuffer(data, np.uint8))
    if name.startswith(("I", "F")) or (header and header.bit_depth == 16):
        notes.append(("deep", "has more than 8 bits per channel: they are scaled to 8"))
    return Mode(orientation, tuple(notes))
