"""From network outputs to detections in pixels of the original images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from .boxes import GROWTH_LIMIT, at_least_float32, clip_to_images, decode, original_limits, to_original
from .results import Detections

# Far outside any image; classes are shifted apart by more than twice that, in float64, where it costs no precision.
FARTHEST = 1e6


@dataclass(frozen=True, kw_only=True)
class Postprocess:
    """Scores, per-class non-maximum suppression (NMS), and the best `max_detections` of each image.

    The defaults are the reference's: suppression above an IoU of 0.6 among unclipped boxes, at most 100 per class, then
    clipping to the image, where boxes without area fall out, then at most 100 in all. NMS looks only at the candidates
    it needs: those with the highest scores, more of them until `max_detections` are found. A candidate is suppressed
    by better ones only, so that is exact; `max_candidates` makes it a bound.
    """

    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    min_score: float = 1e-8
    max_iou: float = 0.6
    top_k: int | None = None  # candidates of a class that reach its NMS; None: all
    max_per_class: int | None = 100
    max_detections: int = 100
    clip: Literal["before", "after"] = "after"  # of NMS
    max_log_size: float | None = None
    max_candidates: int | None = None

    def __post_init__(self) -> None:
        if self.activation not in ("sigmoid", "softmax"):
            raise ValueError(f"activation must be 'sigmoid' or 'softmax', got {self.activation!r}")
        if self.clip not in ("before", "after"):
            raise ValueError(f"clip must be 'before' or 'after' (NMS), got {self.clip!r}")
        if self.min_score < 0:
            raise ValueError(f"min_score must not be negative, got {self.min_score}")

    @classmethod
    def reference(cls) -> "Postprocess":
        """The paper's (TF Object Detection API)."""
        return cls()

    @classmethod
    def torchvision(cls) -> "Postprocess":
        """That of torchvision's `ssdlite320_mobilenet_v3_large`."""
        return cls(
            activation="softmax",
            min_score=0.001,
            max_iou=0.55,
            top_k=300,
            max_per_class=None,
            max_detections=300,
            clip="before",
            max_log_size=GROWTH_LIMIT,
        )

    @torch.no_grad()
    def __call__(self, outputs: Mapping[str, Tensor], metas: Sequence[Mapping[str, Any]]) -> list[Detections]:
        """Detections of each image, best first; `metas` give `original_size`, `input_size` and maybe `pad`."""
        logits, deltas = at_least_float32(outputs["class_logits"]), at_least_float32(outputs["box_deltas"])
        scores = logits.softmax(dim=-1) if self.activation == "softmax" else logits.sigmoid()
        scores = scores[..., 1:].transpose(1, 2).flatten(1)  # [B, (K - 1) * A]
        boxes = decode(deltas, outputs["anchors"].to(deltas.dtype), max_log_size=self.max_log_size)
        boxes = to_original(boxes, metas)
        limits = original_limits(metas, like=boxes)

        num_anchors, total = boxes.shape[1], scores.shape[1]
        bound = total if self.max_candidates is None else min(total, self.max_candidates)
        size = min(bound, 8 * self.max_detections)
        results: dict[int, Detections] = {}
        while len(results) < len(metas):
            pending = [i for i in range(len(metas)) if i not in results]
            best, candidates = scores[pending].topk(size, dim=1)  # sorted
            for i, image_scores, index in zip(pending, best, candidates, strict=True):
                passing = image_scores > self.min_score  # NaN, which sorts first, does not pass
                exhausted = size == bound or not bool(passing[-1])
                image_scores, index = image_scores[passing], index[passing]
                labels = torch.div(index, num_anchors, rounding_mode="floor") + 1
                found = self._select(boxes[i, index % num_anchors], image_scores, labels, limits[i])
                if exhausted or len(found) >= self.max_detections:
                    results[i] = found
            size = min(bound, 4 * size)
        return [results[i] for i in range(len(metas))]

    def _select(self, boxes: Tensor, scores: Tensor, labels: Tensor, limits: Tensor) -> Detections:
        """NMS of candidates in descending order; what it says about the first ones does not depend on the others."""
        if self.top_k is not None:
            allowed = rank_in_class(labels) < self.top_k
            boxes, scores, labels = boxes[allowed], scores[allowed], labels[allowed]
        if self.clip == "before":
            boxes = clip_to_images(boxes, limits)
        kept = class_nms(boxes, scores, labels, max_iou=self.max_iou)
        if self.max_per_class is not None:
            kept = kept[rank_in_class(labels[kept]) < self.max_per_class]
        if self.clip == "after":
            boxes = clip_to_images(boxes, limits)
            kept = kept[(boxes[kept, 2:] > boxes[kept, :2]).all(dim=1)]
        kept = kept[: self.max_detections]
        return Detections(boxes[kept], scores[kept], labels[kept])


def rank_in_class(labels: Tensor) -> Tensor:
    """How many of the same label `[N]` come before each."""
    ordered, order = labels.sort(stable=True)
    ranks = torch.arange(len(labels), device=labels.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(ranks).scatter_(0, order, ranks)


def class_nms(boxes: Tensor, scores: Tensor, labels: Tensor, *, max_iou: float) -> Tensor:
    """Indices of the boxes that survive the better ones of their own class, best first.

    One call of torchvision's kernel with the classes moved apart; its `batched_nms` does that in the boxes' own
    precision, and above 1,000 boxes on the CPU not at all but class by class.
    """
    if boxes.device.type == "mps":  # has no float64
        return class_nms(boxes.cpu(), scores.cpu(), labels.cpu(), max_iou=max_iou).to(boxes.device)
    apart = boxes.double().clamp(-FARTHEST, FARTHEST) + labels[:, None] * (4 * FARTHEST)
    return nms(apart, scores.double(), max_iou)
