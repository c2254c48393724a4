"""From network outputs to detections in pixels of the original images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..backbones.checks import check_choice
from ..backbones.layers import at_least_float32
from .boxes import GROWTH_LIMIT, clip_to_images, decode, original_limits, to_original
from .results import Detections

# Far outside any image; classes are shifted apart by more than twice that, in float64, without loss of precision.
FARTHEST = 1e6


@dataclass(frozen=True, kw_only=True)
class Postprocess:
    """Scores, per-class non-maximum suppression (NMS), and the best `max_detections` of each image.

    The defaults are the reference's: suppression above an IoU of 0.6 among unclipped boxes, at most 100 per class, then
    clipping to the image, which drops boxes without area, then at most 100 in total. Only as many candidates as needed
    are decoded and suppressed: those with the highest scores, more of them until `max_detections` are found. A
    candidate is only suppressed by better ones, so that is exact; `max_candidates` limits their number.
    """

    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    min_score: float = 1e-8
    max_iou: float = 0.6
    top_k: int | None = None  # candidates per class that are passed to NMS; None: all
    max_per_class: int | None = 100
    max_detections: int = 100
    clip: Literal["before", "after"] = "after"  # clip before or after NMS
    max_log_size: float | None = None
    max_candidates: int | None = None

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ("sigmoid", "softmax"))
        check_choice("clip", self.clip, ("before", "after"))
        if self.min_score < 0:
            raise ValueError(f"min_score must not be negative, got {self.min_score}")

    @classmethod
    def reference(cls) -> "Postprocess":
        """The paper's post-processing (TF Object Detection API)."""
        return cls()

    @classmethod
    def torchvision(cls) -> "Postprocess":
        """The post-processing of torchvision's `ssdlite320_mobilenet_v3_large`."""
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
        """Detections of each image, best first; `metas` contain `original_size`, `input_size` and optionally `pad`."""
        logits, deltas = at_least_float32(outputs["class_logits"]), at_least_float32(outputs["box_deltas"])
        anchors = outputs["anchors"].to(deltas.dtype)
        ranking = logits.softmax(dim=-1) if self.activation == "softmax" else logits  # a sigmoid preserves the order
        bound = num_candidates(ranking, self.max_candidates, self.top_k)
        size = bound if bound <= 4 * self.max_detections else 2 * self.max_detections
        results: dict[int, Detections] = {}
        while len(results) < len(metas):
            pending = [i for i in range(len(metas)) if i not in results]
            rows = slice(None) if len(pending) == len(metas) else pending  # usually without a copy
            best, index, labels = best_candidates(ranking[rows], size, self.top_k)
            scores = best if self.activation == "softmax" else best.sigmoid()
            chosen = deltas[rows].gather(1, index[..., None].expand(-1, -1, 4))
            some_metas = [metas[i] for i in pending]
            boxes = to_original(decode(chosen, anchors[index], max_log_size=self.max_log_size), some_metas)
            limits = original_limits(some_metas, like=boxes)
            for i, *candidates in zip(pending, boxes, scores, labels, limits, strict=True):
                found, exhausted = self._select(*candidates)
                if exhausted or size == bound or len(found) >= self.max_detections:
                    results[i] = found
            size = min(bound, 4 * size)
        return [results[i] for i in range(len(metas))]

    def _select(self, boxes: Tensor, scores: Tensor, labels: Tensor, limits: Tensor) -> tuple[Detections, bool]:
        """NMS of one image's candidates in descending order, and whether all that follow are below `min_score`.

        NMS of the first candidates does not depend on the others, and its cost is quadratic: on the CPU
        it runs in chunks until there are enough. For the same reason it handles one image at a time.
        """
        passing = scores > self.min_score  # NaN, which sorts first, does not pass
        exhausted = not bool(passing[-1:].all())
        if self.top_k is not None:
            passing &= rank_in_class(labels) < self.top_k
        boxes, scores, labels = boxes[passing], scores[passing], labels[passing]
        clipped = clip_to_images(boxes, limits)
        compared = clipped if self.clip == "before" else boxes
        has_area = (clipped[:, 2:] > clipped[:, :2]).all(dim=1) | (self.clip == "before")
        step = 2 * self.max_detections if boxes.device.type == "cpu" else max(1, len(boxes))
        kept = labels.new_empty(0)
        for start in range(0, len(boxes), step):
            index = torch.cat((kept, torch.arange(start, min(start + step, len(boxes)), device=kept.device)))
            kept = index[class_nms(compared[index], scores[index], labels[index], max_iou=self.max_iou)]
            if self.max_per_class is not None:  # everything they suppress comes too late, too
                kept = kept[rank_in_class(labels[kept]) < self.max_per_class]
            if len(kept) >= self.max_detections and int(has_area[kept].sum()) >= self.max_detections:
                break
        kept = kept[has_area[kept]][: self.max_detections]
        return Detections(clipped[kept], scores[kept], labels[kept]), exhausted


def num_candidates(ranking: Tensor, most: int | None, top_k: int | None) -> int:
    """Number of (anchor, slot) pairs of `ranking` [B, A, K], without slot 0, that may reach NMS; at most `most`."""
    num_anchors, num_classes = ranking.shape[1], ranking.shape[2] - 1
    total = num_classes * (num_anchors if top_k is None else min(num_anchors, top_k))
    return total if most is None else min(total, most)


def best_candidates(ranking: Tensor, count: int, top_k: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` highest of `ranking` [B, A, K] except slot 0: values, anchors and slots, each [B, count], in order.

    If `count` is large enough for `top_k` of each class, those are returned; `count` is at most `num_candidates`.
    """
    foreground = ranking[..., 1:]
    num_anchors, num_classes = foreground.shape[1:]
    if top_k is not None and count >= num_classes * min(num_anchors, top_k):
        of_class, rows = foreground.transpose(1, 2).topk(min(num_anchors, top_k), dim=2)
        values, index = of_class.flatten(1).sort(dim=1, descending=True)
        return values, rows.flatten(1).gather(1, index), torch.div(index, rows.shape[2], rounding_mode="floor") + 1
    # All belong to the `count` anchors whose best slot ranks highest, so most anchors are read only once.
    anchors = foreground.amax(dim=2).topk(min(count, num_anchors), dim=1, sorted=False).indices
    rows = foreground.gather(1, anchors[..., None].expand(-1, -1, num_classes))
    values, index = rows.flatten(1).topk(count, dim=1)  # sorted
    return values, anchors.gather(1, torch.div(index, num_classes, rounding_mode="floor")), index % num_classes + 1


def rank_in_class(labels: Tensor) -> Tensor:
    """For each, the number of earlier ones with the same label `[N]`."""
    ordered, order = labels.sort(stable=True)
    ranks = torch.arange(len(labels), device=labels.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(ranks).scatter_(0, order, ranks)


def class_nms(boxes: Tensor, scores: Tensor, labels: Tensor, *, max_iou: float) -> Tensor:
    """Indices of the boxes that survive the better ones of their own class, best first.

    One call of torchvision's kernel with the classes moved apart; its `batched_nms` does that in the boxes' own
    precision, and for more than 1,000 boxes on the CPU it goes class by class instead.
    """
    from torchvision.ops import nms  # not at the top: torchvision imports its models, which takes a second

    if boxes.device.type == "mps":  # MPS has no float64
        return class_nms(boxes.cpu(), scores.cpu(), labels.cpu(), max_iou=max_iou).to(boxes.device)
    apart = boxes.double().clamp(-FARTHEST, FARTHEST) + labels[:, None] * (4 * FARTHEST)
    return nms(apart, scores.double(), max_iou)
