"""From logits to label maps in each image's own pixels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .upsample import full_size_logits, resize_logits

IGNORED = 255


class LabelMaps:
    """Best class of every pixel: `logits` -> `list[uint8 [H0, W0]]` at the images' original sizes.

    The padding of the data layer (`meta["pad"]`) and of the network is removed. Where the image had been resized, the
    logits are resized back, not the labels: half-pixel bilinear, the inverse of how images are resized.

    With `void` the last of the logits means none of the classes, and such pixels become 255. Cityscapes' rules count
    them as a miss of the true class, and nobody's false alarm.
    """

    def __init__(self, *, align_corners: bool = True, void: bool = False) -> None:
        self.align_corners = align_corners
        self.void = void

    @torch.no_grad()
    def __call__(self, outputs: dict[str, Any], metas: Sequence[dict[str, Any]]) -> list[Tensor]:
        num_images, num_classes = outputs["logits"].shape[:2]
        if len(metas) != num_images:
            raise ValueError(f"{num_images} images in the logits, but {len(metas)} metas: give one for each image")
        if num_classes > 255:
            raise ValueError(
                f"label maps are uint8 with 255 for ignored pixels: at most 255 classes, not {num_classes}"
            )
        # One image at a time: 19 x 1025 x 2049 logits are 160 MB.
        return [
            self._label_map({**outputs, "logits": outputs["logits"][index : index + 1]}, meta)
            for index, meta in enumerate(metas)
        ]

    def _label_map(self, outputs: dict[str, Any], meta: dict[str, Any]) -> Tensor:
        logits = full_size_logits(outputs, meta["input_size"], align_corners=self.align_corners)
        logits = resize_logits(without_padding(logits, meta), meta["original_size"], align_corners=False)
        # `argmax(1)` over NCHW takes several times as long.
        label_map = logits.max(1).indices[0].to(torch.uint8)
        return label_map.masked_fill(label_map == logits.shape[1] - 1, IGNORED) if self.void else label_map


def without_padding(image: Tensor, meta: dict[str, Any]) -> Tensor:
    """Cut the data layer's `pad` (left, top, right, bottom) off [..., H, W] in input pixels."""
    left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
    height, width = image.shape[-2:]
    return image[..., top : height - bottom, left : width - right]
