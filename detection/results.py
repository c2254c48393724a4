"""A detector's result for one image."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Boxes `[N, 4]` xyxy in pixels of the original image, scores `[N]` (descending) and slots `[N]`."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        count = len(self.boxes)
        expected = ((count, 4), (count,), (count,))
        actual = tuple(self.boxes.shape), tuple(self.scores.shape), tuple(self.labels.shape)
        if actual != expected:
            raise ValueError(f"boxes, scores and labels must have the shapes [N, 4], [N], [N]; got {actual}")

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> "Detections":
        """The same on another device."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))
