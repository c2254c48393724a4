"""Pooling layers for image-level features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Output stride -> steps (h, w): the paper's Figure 10 for 16, the released model's flags for 32, and for 8 twice the
# steps of 16, which pools the same parts of the image.
_STEPS = {8: (32, 40), 16: (16, 20), 32: (4, 5)}


class WindowPool(nn.Module):
    """Average over large windows with large steps: [B, C, h, w] -> [B, C, h', w'], 1x1 while training on `crop`.

    The window is as large as the map of a `crop` x `crop` input, (crop - 1) / stride + 1, clamped to the map.
    """

    def __init__(self, stride: int, *, crop: int = 769, steps: tuple[int, int] | None = None) -> None:
        super().__init__()
        if steps is None and stride not in _STEPS:
            raise ValueError(
                f"no default pooling steps for output stride {stride} (only for {list(_STEPS)}): set pool_steps"
            )
        if crop < 1 or min(steps or (1, 1)) < 1:
            raise ValueError(f"pool_crop and pool_steps must be positive; got {crop} and {steps}")
        self.window = (crop - 1) // stride + 1
        self.steps = tuple(steps or _STEPS[stride])

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        if not isinstance(height, int) or not isinstance(width, int):
            rows, columns = (self._shares(features, axis) for axis in (2, 3))
            return rows @ features @ columns.T
        if height <= self.window and width <= self.window:
            return features.mean((2, 3), keepdim=True)
        return F.avg_pool2d(features, (min(height, self.window), min(width, self.window)), self.steps)

    def _shares(self, features: Tensor, axis: int) -> Tensor:
        """The weight of each position along an axis in each window's mean, [windows, positions]: pooling as a product.

        For exported graphs of any size, where the length is symbolic but a pooling window must be a number.
        """
        length, step = features.shape[axis], self.steps[axis - 2]
        window = torch.sym_min(length, self.window)
        place = torch.arange(length, device=features.device)
        start = torch.arange(0, length - window + 1, step, device=features.device)[:, None]
        inside = (place >= start) & (place < start + window)
        return inside.to(features.dtype) / inside.sum(1, keepdim=True)

    def extra_repr(self) -> str:
        return f"window={self.window}, steps={self.steps}"


class GlobalPool(nn.Module):
    """Average over the whole map: [B, C, h, w] -> [B, C, 1, 1]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3), keepdim=True)
