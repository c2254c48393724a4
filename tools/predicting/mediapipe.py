"""Outputs as MediaPipe Tasks reads them, as tensors of the network again."""

from collections.abc import Mapping

import torch
from torch import Tensor

OUTPUTS = {"detection": ("location", "score"), "segmentation": ("segmentation_masks",)}
ROWS_FIRST = [1, 0, 3, 2]  # (x, y, w, h) as (y, x, h, w), and back


def as_raw(outputs: Mapping[str, Tensor], *, softmax: bool) -> dict[str, Tensor]:
    """Raw outputs with the same results; `softmax` if a detector's classes exclude each other.

    The background of a detector is not in the file. After a softmax it is what the classes leave; with independent
    classes nothing reads it.
    """
    if "segmentation_masks" in outputs:
        return {"logits": outputs["segmentation_masks"].permute(0, 3, 1, 2)}
    score = outputs["score"]
    rest = 1 - score.sum(-1, keepdim=True) if softmax else torch.zeros_like(score[..., :1])
    logits = torch.cat((rest, score), dim=-1)
    if softmax:
        logits = logits.clamp(min=torch.finfo(logits.dtype).tiny).log()
    return {"class_logits": logits, "box_deltas": outputs["location"][..., ROWS_FIRST]}
