"""Task-aligned matching: anchors are assigned to boxes by their current predictions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .boxes import iou
from .matching import Assignment, pad_targets, take_boxes

SPARE_ROUNDS = 4  # fixed: checking whether a box still lacks one would be a device sync


@torch.no_grad()
def align(
    targets: Sequence[Mapping[str, Tensor]],
    anchors: Tensor,
    *,
    logits: Tensor,
    boxes: Tensor,
    score_power: float = 1.0,
    overlap_power: float = 6.0,
    num_anchors: int = 10,
    crowd_fraction: float | None = 0.5,
) -> Assignment:
    """Match a batch of targets to the anchors that predict them best (TOOD, section 3.2.1).

    An anchor's alignment with a box is score^`score_power` * IoU^`overlap_power`, of its score for the box's class and
    its decoded box, `logits` [B, A, K] and `boxes` [B, A, 4]. Of the anchors with their center inside a box and the
    `num_anchors` that overlap it most (small boxes contain no center), the `num_anchors` best aligned are its own; one
    that several boxes want goes to the box it overlaps most. A box that gets none, because no prediction overlaps it
    or others have them all, takes the best spare anchor (of more than `SPARE_ROUNDS` such boxes in one place
    some may get none): without one it would never be learned. Each matched anchor's `weights` are its alignment
    relative to the box's best anchor, and its `scores`, the target of the class logit, that times the box's best IoU.
    """
    padded = pad_targets(targets, like=anchors)
    places = iou(padded.boxes, anchors)  # [B, N, A]
    overlaps = iou(padded.boxes, boxes)  # [B, N, A]
    scores = logits.sigmoid().transpose(1, 2)  # [B, K, A]
    scores = scores.gather(1, padded.labels[..., None].expand(-1, -1, len(anchors)))  # [B, N, A]
    alignment = scores**score_power * overlaps**overlap_power

    near = _near(padded.boxes, anchors, places, num_anchors) & padded.valid[..., None]
    best = alignment.masked_fill(~near, -1).topk(min(num_anchors, len(anchors)), dim=2)
    wanted = torch.zeros_like(near).scatter_(2, best.indices, best.values > 0)
    index = overlaps.masked_fill(~wanted, -1).argmax(dim=1)  # [B, A]: of the boxes that want it
    owned = _give_spare(_one_hot(index, wanted.shape[1]) & wanted, places)

    alignment = alignment.masked_fill(~owned, 0)
    best_alignment = alignment.amax(dim=2, keepdim=True)
    relative = torch.where(best_alignment > 0, alignment / best_alignment, owned.to(alignment))
    quality = relative * overlaps.masked_fill(~owned, 0).amax(dim=2, keepdim=True)
    return take_boxes(
        padded,
        owned.byte().argmax(dim=1),
        owned.any(dim=1),
        anchors,
        crowd_fraction=crowd_fraction,
        weights=relative.amax(dim=1),
        scores=quality.amax(dim=1),
    )


def _near(boxes: Tensor, anchors: Tensor, places: Tensor, count: int) -> Tensor:
    """bool [B, N, A]: anchors whose center lies inside a box, and the `count` whose `places` overlap it most."""
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    inside = ((centers > boxes[..., None, :2]) & (centers < boxes[..., None, 2:])).all(dim=-1)
    most = places.topk(min(count, len(anchors)), dim=2).indices
    return inside.scatter_(2, most, True)


def _give_spare(owned: Tensor, places: Tensor) -> Tensor:
    """`owned` bool [B, N, A], and for each box without an anchor the unowned one that overlaps it most.

    If boxes want the same one, the first gets it and the others try again. Boxes without overlap, such as padding, get
    none.
    """
    for _ in range(SPARE_ROUNDS):
        overlap, anchor = places.masked_fill(owned.any(dim=1, keepdim=True), 0).max(dim=2)  # [B, N]
        lacking = (overlap > 0) & ~owned.any(dim=2)
        wanted = torch.zeros_like(owned).scatter_(2, anchor[..., None], lacking[..., None])
        owned = owned | (wanted & _one_hot(wanted.byte().argmax(dim=1), owned.shape[1]))
    return owned


def _one_hot(index: Tensor, count: int) -> Tensor:
    """bool [B, N, A] of `index` [B, A] below N."""
    return index[:, None] == torch.arange(count, device=index.device)[:, None]
