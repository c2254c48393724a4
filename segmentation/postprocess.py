"""From logits to label maps in each image's own pixels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backbones.layers import at_least_float32
from ..words import counted
from .labelling import axis_cells, label_map
from .upsample import check_logits_size

IGNORED = 255


class LabelMaps:
    """Best class of every pixel: `logits` -> `list[uint8 [H0, W0]]` at the images' original sizes.

    The padding of the data layer (`meta["pad"]`) and of the network is removed. If the image was resized, the
    logits are resized back, not the labels: half-pixel bilinear, the inverse of how images are resized.

    With `void` the last logit means none of the classes, and such pixels become 255. Cityscapes' rules count
    them as a miss of the true class, but not as a false positive.
    """

    def __init__(self, *, align_corners: bool = True, void: bool = False) -> None:
        self.align_corners = align_corners
        self.void = void

    @torch.no_grad()
    def __call__(self, outputs: dict[str, Any], metas: Sequence[dict[str, Any]]) -> list[Tensor]:
        num_images, num_classes = outputs["logits"].shape[:2]
        if len(metas) != num_images:
            raise ValueError(
                f"{counted(num_images, 'image')} in the logits, but {len(metas)} metas: pass one per image"
            )
        if num_classes > 255:
            raise ValueError(
                f"label maps are uint8 with 255 for ignored pixels: expected at most 255 classes, got {num_classes}"
            )
        return [
            self._label_map(logits, outputs["logits_size"], meta)
            for logits, meta in zip(outputs["logits"], metas, strict=True)
        ]

    def _label_map(self, logits: Tensor, padded: tuple[int, int], meta: dict[str, Any]) -> Tensor:
        check_logits_size(padded, meta["input_size"])
        left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
        logits = at_least_float32(logits)
        sides = zip(
            logits.shape[1:], padded, meta["input_size"], (top, left), (bottom, right), meta["original_size"],
            strict=True,
        )  # fmt: skip
        rows, columns = (axis_cells(*map(int, side), self.align_corners, logits.dtype, logits.device) for side in sides)
        labels = label_map(logits, rows, columns)
        return void_ignored(labels, len(logits)) if self.void else labels


def void_ignored(labels: Tensor, outputs: int) -> Tensor:
    """Label maps with IGNORED where a network's last output was best."""
    return labels.masked_fill(labels == outputs - 1, IGNORED)


def without_padding(image: Tensor, meta: dict[str, Any]) -> Tensor:
    """Remove the data layer's `pad` (left, top, right, bottom) from [..., H, W] in input pixels."""
    left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
    height, width = image.shape[-2:]
    return image[..., top : height - bottom, left : width - right]
