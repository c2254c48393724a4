"""How a source reads its files, so that a cache can replace it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .decode import check_size, decode_image, decode_mask
from .label_colors import ColorTable

_JPEG_ENDINGS = (".jpg", ".jpeg")


@dataclass(frozen=True)
class PictureFile:
    """A file that a source decodes, for code that lists all files."""

    path: Path
    size: tuple[int, int] | None = None  # h, w, if the annotations state it
    mask: bool = False
    colors: ColorTable | None = None  # of the mask's classes


class Decoder:
    """Reads files as they are."""

    def image(self, path: str | Path, *, reduction: int = 1) -> np.ndarray:
        """See `decode_image`; only files named as JPEG are reduced."""
        return decode_image(path, reduction=reduction if is_jpeg(path) else 1)

    def mask(self, path: str | Path, colors: ColorTable | None = None) -> np.ndarray:
        """See `decode_mask`."""
        return decode_mask(path, colors)


def is_jpeg(path: str | Path) -> bool:
    """By its name."""
    return str(path).lower().endswith(_JPEG_ENDINGS)


def decode_checked(
    reduction: int, *, decoder: Decoder, path: str | Path, size: tuple[int, int], source: str | Path
) -> np.ndarray:
    """The picture at its full `size` (h, w), as `source` states it, or a JPEG at 1/`reduction` of that.

    Raises:
        ValueError: it has another size.
    """
    image = decoder.image(path, reduction=reduction)
    if image.shape[:2] not in (size, reduced_size(size, reduction)):
        whole = image if reduction == 1 else decoder.image(path)  # the error shows the file's size
        check_size(whole.shape[:2], size, path=path, source=source)
    return image


def reduced_size(size: tuple[int, int], reduction: int) -> tuple[int, int]:
    """(h, w) of a JPEG decoded at 1/`reduction` of its size."""
    return -(-size[0] // reduction), -(-size[1] // reduction)
