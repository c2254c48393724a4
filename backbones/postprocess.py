"""From logits to classes in order of probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..words import counted


@dataclass(frozen=True)
class Ranking:
    """All classes of one image, most probable first."""

    labels: Tensor  # int64 [K], slots
    scores: Tensor  # float32 [K], probabilities that sum to 1


class Rankings:
    """Softmax and order: `logits` [B, K] -> `list[Ranking]`. Equal logits keep the order of the classes."""

    @torch.no_grad()
    def __call__(self, outputs: dict[str, Any], metas: Sequence[dict[str, Any]]) -> list[Ranking]:
        logits = outputs["logits"].float()
        if len(metas) != len(logits):
            raise ValueError(
                f"{counted(len(logits), 'image')} in the logits, but {len(metas)} metas: pass one per image"
            )
        # Sorted before the softmax, which turns everything far below the best into zeros.
        ordered, labels = logits.sort(dim=1, descending=True, stable=True)
        return [Ranking(*pair) for pair in zip(labels, ordered.softmax(1), strict=True)]
