"""Evaluation protocols beyond the whole image: sliding windows, several scales, the mirror image."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .upsample import full_size_logits, resize_logits


class MultiView(nn.Module):
    """A segmentation network that combines several views of an image, with the interface of a single-view network.

    Window by window (`window`, `stride`, both (h, w); the last row and column of windows end with the image), logits
    are averaged where windows overlap. Of `scales` and `flip` the softmax probabilities are averaged, at the size of
    the input; their logarithms are the logits, so that criterion and postprocess need no change. If there is one
    view, and one window covers it, the network's own outputs are returned.

    For evaluation only: no gradients. Full-size logits (19 classes of 1024x2048, float32: 160 MB) are kept for the
    sum and for one view.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        align_corners: bool,
        window: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        super().__init__()
        if (window is None) != (stride is None):
            raise ValueError(f"window={window} and stride={stride}: set both or neither")
        if window is not None and stride is not None:
            _check_windows(window, stride)
        if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
            raise ValueError(f"scales={list(scales)}: expected one or more factors above 0")
        self.network = network
        self.align_corners = align_corners
        self.window, self.stride = window, stride
        self.scales, self.flip = tuple(scales), flip

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Any]:
        """RGB [B, 3, H, W] in 0..255 -> `logits` [B, K, H, W] and `logits_size` (H, W), or the network's own."""
        height, width = images.shape[-2:]
        views = [(scale, mirrored) for scale in self.scales for mirrored in (False, True)[: 1 + self.flip]]
        if views == [(1.0, False)]:
            if self._covered(height, width):
                return self.network(images)
            return {"logits": self._slide(images), "logits_size": (height, width)}
        total: Tensor | None = None
        for scale, mirrored in views:
            probabilities = self._probabilities(images, scale, mirrored)
            total = probabilities if total is None else total.add_(probabilities)
        assert total is not None
        least = torch.finfo(total.dtype).tiny
        return {"logits": total.div_(len(views)).clamp_(min=least).log_(), "logits_size": (height, width)}

    def _probabilities(self, images: Tensor, scale: float, mirrored: bool) -> Tensor:
        """[B, K, H, W] of one view, on the device of its logits."""
        size = images.shape[-2], images.shape[-1]
        view = images
        if scale != 1:
            inner = [max(1, round(side * scale)) for side in size]
            view = images if images.is_floating_point() else images.float()
            view = F.interpolate(view, size=inner, mode="bilinear", align_corners=False)
        view = view.flip(-1) if mirrored else view
        logits = resize_logits(self._slide(view), size, align_corners=False)
        logits = logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
        logits = logits.div_(logits.sum(dim=1, keepdim=True))
        return logits.flip(-1) if mirrored else logits

    def _slide(self, images: Tensor) -> Tensor:
        """Logits [B, K, h, w] of a view [B, 3, h, w]."""
        height, width = images.shape[-2:]
        if self._covered(height, width):
            return self._full(images)
        assert self.window is not None
        assert self.stride is not None
        total, counts = None, images.new_zeros((height, width), dtype=torch.float32)
        for rows in spans(height, self.window[0], self.stride[0]):
            for columns in spans(width, self.window[1], self.stride[1]):
                logits = self._full(images[..., rows, columns])
                if total is None:
                    total = logits.new_zeros((*logits.shape[:2], height, width))
                total[..., rows, columns] += logits
                counts[rows, columns] += 1
        assert total is not None
        return total.div_(counts)

    def _full(self, images: Tensor) -> Tensor:
        size = images.shape[-2], images.shape[-1]
        return full_size_logits(self.network(images), size, align_corners=self.align_corners)

    def _covered(self, height: int, width: int) -> bool:
        return self.window is None or (height <= self.window[0] and width <= self.window[1])


def spans(length: int, window: int, stride: int) -> Iterator[slice]:
    """Window positions along a side: every `stride`, the last one ending with the side. Together they cover it."""
    last = max(0, length - window)
    for start in range(0, last + stride, stride):
        start = min(start, last)
        yield slice(start, min(start + window, length))


def _check_windows(window: Sequence[int], stride: Sequence[int]) -> None:
    for key, pair in (("window", window), ("stride", stride)):
        if len(pair) != 2 or min(pair) < 1:
            raise ValueError(f"{key}={list(pair)}: expected [h,w] in pixels, both 1 or more")
    if any(step > side for step, side in zip(stride, window, strict=True)):
        raise ValueError(
            f"stride={list(stride)} is larger than window={list(window)}: pixels in between would be skipped"
        )
