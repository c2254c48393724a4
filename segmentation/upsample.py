"""Sizes at either end of a network: the padding of its input, and low-resolution logits upsampled to that size."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..backbones.layers import at_least_float32

# Networks pad their input to a multiple of the output stride plus one, so by less than the largest output stride.
_MAX_PADDING = 32


def pad_to_multiple(images: Tensor, stride: int, *, plus: int = 0) -> Tensor:
    """Zero-pad [B, C, H, W] at the bottom and right until both sides are a multiple of `stride` and `plus`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, (plus - width) % stride, 0, (plus - height) % stride))


def full_size_logits(outputs: dict[str, Any], size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Upsample `outputs["logits"]` to `outputs["logits_size"]` and remove the network's padding.

    `logits` [B, K, h, w] cover `logits_size` (h', w'), the padded input; `size` (h, w) is the input's own.
    Returns [B, K, *size], float32 even if the logits come from autocast (float64 stays float64).
    """
    padded = outputs["logits_size"]
    check_logits_size(padded, size)
    return resize_logits(outputs["logits"], padded, align_corners=align_corners)[..., : size[0], : size[1]]


def check_logits_size(padded: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise ValueError unless a network pads an input of `size` (h, w) to `padded`."""
    if not all(0 <= big - small < _MAX_PADDING for big, small in zip(padded, size, strict=True)):
        raise ValueError(
            f"the logits cover an input of {tuple(padded)} (h, w), including padding, not one of {tuple(size)}: "
            "masks and metas must have the size of the images in their batch"
        )


def resize_logits(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Bilinear resize of [B, K, h, w] in float32 or wider: bfloat16 interpolation moves class borders."""
    logits = at_least_float32(logits)
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=align_corners)
