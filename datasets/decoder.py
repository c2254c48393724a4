"""What a source reads its files with, so that a cache can take its place."""

from pathlib import Path

import numpy as np

from .decode import check_size, decode_image, decode_mask


class Decoder:
    """Reads files as they are."""

    def image(self, path: str | Path, *, reduction: int = 1) -> np.ndarray:
        """See `decode_image`."""
        return decode_image(path, reduction=reduction)

    def mask(self, path: str | Path) -> np.ndarray:
        """See `decode_mask`."""
        return decode_mask(path)


def decode_checked(
    reduction: int, *, decoder: Decoder, path: str | Path, size: tuple[int, int], source: str | Path
) -> np.ndarray:
    """The picture, whose full size has to be `size` (h, w), as `source` says.

    Raises:
        ValueError: it has another size.
    """
    image = decoder.image(path, reduction=reduction)
    if reduction > 1 and image.shape[:2] != reduced_size(size, reduction):
        image = decoder.image(path)  # no jpeg; or a wrong size, which the error should tell in full
    if image.shape[:2] != reduced_size(size, reduction):
        check_size(image.shape[:2], size, path=path, source=source)
    return image


def reduced_size(size: tuple[int, int], reduction: int) -> tuple[int, int]:
    """(h, w) of a jpeg decoded at 1/`reduction` of its sides."""
    return -(-size[0] // reduction), -(-size[1] // reduction)
