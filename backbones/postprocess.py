"""From logits to classes in the order of their probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """All classes of one image, the most probable first."""

    labels: Tensor  # int64 [K], slots
    scores: Tensor  # float32 [K], probabilities that sum to 1


class Rankings:
    """Softmax and order: `logits` [B, K] -> `list[Ranking]`. Equal logits keep the order of the classes."""

    @torch.no_grad()
    def __call__(self, outputs: dict[str, Any], metas: Sequence[dict[str, Any]]) -> list[Ranking]:
        logits = outputs["logits"].float()
        if len(metas) != len(logits):
            raise ValueError(f"{len(logits)} images in the logits, but {len(metas)} metas: give one for each image")
        # Sorted before the softmax, which makes zeros of all that is far below the best.
        ordered, labels = logits.sort(dim=1, descending=True, stable=True)
        return [Ranking(*pair) for pair in zip(labels, ordered.softmax(1), strict=True)]
