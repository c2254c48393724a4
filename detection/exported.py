"""A detector with its post-processing as one module of tensors, for torch.export and what converts its programs."""

import torch
from torch import Tensor, nn

from .boxes import area, clip_to_images, decode, intersection
from .postprocess import Postprocess, best_candidates, class_nms, num_candidates


class ExportedDetector(nn.Module):
    """Images to boxes in one graph: `Postprocess` on the `candidates` best pairs of anchor and class.

    `padded`: results of every image in arrays of equal size (for batches); otherwise those of a single image.
    """

    def __init__(self, network: nn.Module, post: Postprocess, *, candidates: int, padded: bool) -> None:
        super().__init__()
        self.network = network
        self.post = post
        self.candidates = candidates
        self.padded = padded

    def forward(self, images: Tensor, limits: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
        """Detect in `images` [B, 3, h, w]; `limits` (w, h, w, h) of the photograph, `scale` its pixels per input pixel.

        `boxes` [N, 4], `scores` [N], `labels` [N]; padded with zeros [B, M, 4], [B, M], [B, M], and `counts` [B].
        """
        outputs, post = self.network(images), self.post
        logits = outputs["class_logits"].float()
        num_classes = logits.shape[2] - 1
        scores = logits.softmax(-1) if post.activation == "softmax" else logits.sigmoid()
        count = num_candidates(scores, self.candidates, post.top_k)
        scores, anchor, labels = best_candidates(scores, count, post.top_k)
        deltas = outputs["box_deltas"].float().gather(1, anchor[..., None].expand(-1, -1, 4))
        boxes = decode(deltas, outputs["anchors"][anchor], max_log_size=post.max_log_size)
        if scale is not None:
            boxes = boxes * scale
        if post.clip == "before":
            boxes = clip_to_images(boxes, limits)
        keep = self._suppress(boxes, scores, labels, num_classes)
        if post.clip == "after":
            boxes = clip_to_images(boxes, limits)
            keep = self._with_area(boxes, keep)
        if self.padded:
            return self._padded(boxes, scores, labels, keep)
        keep = keep & (keep.cumsum(1) <= post.max_detections)
        return {"boxes": boxes[0][keep[0]], "scores": scores[0][keep[0]], "labels": labels[0][keep[0]]}

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """Which candidates survive, bool [B, k]: one NMS with the classes of all images kept apart."""
        allowed = scores > self.post.min_score
        if self.post.top_k is not None:
            allowed = allowed & (rank(allowed, labels, num_classes) <= self.post.top_k)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
        # Excluded candidates get a group of their own, where their suppressions do not matter.
        groups = torch.where(allowed, labels, 0) + image * (num_classes + 1)
        kept = class_nms(boxes.flatten(0, 1), scores.flatten(), groups.flatten(), max_iou=self.post.max_iou)
        keep = torch.zeros_like(groups.flatten(), dtype=torch.bool).index_fill(0, kept, True)
        keep = keep.view(scores.shape) & allowed
        if self.post.max_per_class is not None:
            keep = keep & (rank(keep, labels, num_classes) <= self.post.max_per_class)
        return keep

    def _with_area(self, boxes: Tensor, keep: Tensor) -> Tensor:
        return keep & (boxes[..., 2:] > boxes[..., :2]).all(2)

    def _padded(self, boxes: Tensor, scores: Tensor, labels: Tensor, keep: Tensor) -> dict[str, Tensor]:
        length = min(self.post.max_detections, keep.shape[1])
        index = (~keep).to(torch.uint8).sort(dim=1, stable=True).indices[:, :length]  # survivors first, in order
        filled = keep.gather(1, index)
        return {
            "boxes": boxes.gather(1, index[..., None].expand(-1, -1, 4)) * filled[..., None],
            "scores": scores.gather(1, index) * filled,
            "labels": labels.gather(1, index) * filled,
            "counts": filled.sum(1),
        }


def rank(marked: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The number of marked candidates with the same label up to and including each: [B, k]."""
    table = torch.zeros((marked.shape[0], num_classes + 1, marked.shape[1]), device=marked.device)
    row = labels[:, None]
    return table.scatter(1, row, marked[:, None].float()).cumsum(2).gather(1, row)[:, 0]


class PortableDetector(ExportedDetector):
    """The same from operators that every converter knows: results of fixed size, and suppression by matrix products.

    Whether a candidate survives depends on the better ones that overlap it. Starting with all of them, every round
    recomputes who is overlapped by a survivor, and after as many rounds as the longest chain of suppressions that is
    greedy non-maximum suppression. The 12 rounds are far above what 256 candidates of a photograph need; the matrix
    has `candidates` squared entries, so they are few.

    One image per call.
    """

    rounds = 12  # chains of up to 13 boxes

    def __init__(self, network: nn.Module, post: Postprocess, *, candidates: int, padded: bool = True) -> None:
        super().__init__(network, post, candidates=candidates, padded=True)

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        post, boxes, labels = self.post, boxes[0], labels[0].to(boxes.dtype)
        # Conditions are numbers, 0 or 1: some converters have no logical operators.
        better = torch.ones((len(boxes), len(boxes)), dtype=boxes.dtype).tril(-1)
        rivals = (labels[:, None] == labels[None]).to(boxes.dtype) * better
        allowed = (scores[0] > post.min_score).to(boxes.dtype)
        if post.top_k is not None and post.top_k < len(boxes):
            allowed = allowed * (times(rivals, allowed) < post.top_k).to(boxes.dtype)
        over = overlaps(boxes, post.max_iou) * rivals
        keep = allowed
        for _ in range(self.rounds):
            keep = allowed * (times(over, keep) < 0.5).to(boxes.dtype)
        if post.max_per_class is not None and post.max_per_class < len(boxes):
            keep = keep * (times(rivals, keep) < post.max_per_class).to(boxes.dtype)
        return keep[None]

    def _with_area(self, boxes: Tensor, keep: Tensor) -> Tensor:
        size = boxes[..., 2:] - boxes[..., :2]
        return keep * (size.amin(2) > 0).to(keep.dtype)

    def _padded(self, boxes: Tensor, scores: Tensor, labels: Tensor, keep: Tensor) -> dict[str, Tensor]:
        length = min(self.post.max_detections, keep.shape[1])
        # Survivors first, in order; the first `max_detections` of them.
        place = torch.arange(keep.shape[1], 0, -1, dtype=keep.dtype)
        index = (keep[0] * place).topk(length).indices
        filled = keep[0][index]
        return {
            "boxes": (boxes[0][index] * filled[:, None])[None],
            "scores": (scores[0][index] * filled)[None],
            "labels": (labels[0][index] * filled.to(labels.dtype))[None],
            "counts": filled.sum()[None].to(labels.dtype),
        }


def overlaps(boxes: Tensor, max_iou: float) -> Tensor:
    """1 where two of `boxes` [N, 4] have an IoU above `max_iou`, else 0: [N, N]."""
    shared, areas = intersection(boxes, boxes), area(boxes)
    return (shared > max_iou * (areas[:, None] + areas - shared)).to(boxes.dtype)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """The product of [N, N] and [N]."""
    return (matrix @ vector[:, None])[:, 0]
