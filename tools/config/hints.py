"""Warnings about settings that are probably unintended, logged before training starts."""

from typing import Any

import numpy as np
from omegaconf import DictConfig

from ...datasets.images.decoder import PictureFile
from ...datasets.images.files import image_size

_SHARE = 1 / 8  # of a photograph's pixels; the reference's crops of Cityscapes cover 0.28
_PHOTOGRAPHS = 16  # whose size is read
_STRIDE = 32


def crop_hint(data: DictConfig, source: Any) -> str | None:
    """A hint if training crops cover very little of the photographs, with the keys that downscale them; else None.

    Reads some files' headers; unreadable ones are ignored here and reported when they are decoded.
    """
    crop = data.input_size
    if data.task != "segmentation" or data.resize != "none" or crop is None or not hasattr(source, "files"):
        return None
    indices = range(0, len(source), -(-len(source) // _PHOTOGRAPHS))
    sizes = [size for i in indices for file in source.files(i) if (size := _size(file)) is not None]
    if not sizes:
        return None
    height, width = np.median(sizes, axis=0)
    share = crop[0] * crop[1] / (height * width)
    if share >= _SHARE:
        return None
    scale = (2 * share) ** 0.5  # a crop then covers half of a photograph
    fit = [max(_STRIDE, round(scale * side / _STRIDE) * _STRIDE) for side in (height, width)]
    return (
        f"training crops of {crop[1]}x{crop[0]} cover {share:.1%} of a photograph of {width:.0f}x{height:.0f}. Unless "
        f'your objects are small, downscale the photographs: data.resize=letterbox "data.eval_size={fit}"'
    )


def _size(file: PictureFile) -> tuple[int, int] | None:
    if file.mask:
        return None
    try:
        return file.size or image_size(file.path)
    except (OSError, ValueError):
        return None
