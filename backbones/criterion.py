"""Cross entropy of image labels."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import at_least_float32


class LabelCriterion(nn.Module):
    """Softmax cross entropy averaged over the images; `label_smoothing` is the fraction spread over all classes."""

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1; got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, outputs: dict[str, Any], targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """`{"loss_class"}`, float32 or wider; 0 with a gradient where there are no images."""
        sums, count = self.sums(outputs, targets)
        return {name: value / count.clamp(min=1) for name, value in sums.items()}

    def sums(self, outputs: dict[str, Any], targets: Sequence[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Un-normalized `{"loss_class"}` and the number of images, scalars; no device sync.

        `logits` [B, K]; each target's `label` is an int64 scalar in 0..K-1.
        """
        logits = at_least_float32(outputs["logits"])
        if len(targets) != len(logits):
            raise ValueError(f"{len(targets)} targets for the logits of {len(logits)} images: pass one per image")
        if not len(targets):
            return {"loss_class": logits.sum()}, logits.new_zeros(())
        labels = torch.stack([target["label"] for target in targets])
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing)
        return {"loss_class": loss}, logits.new_tensor(len(targets))
