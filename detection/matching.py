"""Assigns boxes to anchors, for a whole batch at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .boxes import ioa, iou

Ties = Literal["first", "last"]


@dataclass(frozen=True)
class PaddedTargets:
    """A batch of ragged targets as tensors; rows where `valid` is false are padding. N and M are at least 1."""

    boxes: Tensor  # [B, N, 4]
    labels: Tensor  # [B, N]
    valid: Tensor  # [B, N]
    crowd_boxes: Tensor  # [B, M, 4]
    crowd_valid: Tensor  # [B, M]


@dataclass(frozen=True)
class Assignment:
    """The targets of each anchor of each image."""

    labels: Tensor  # [B, A] int64 slots, 0 where nothing is matched
    boxes: Tensor  # [B, A, 4] the matched box; the anchor itself where nothing is matched
    matched: Tensor  # [B, A] bool
    ignored: Tensor  # [B, A] bool: unmatched and in a crowd, so neither object nor background
    weights: Tensor | None = None  # [B, A] 0..1, 0 where nothing is matched; None: 1 where something is
    scores: Tensor | None = None  # [B, A] 0..1, the target score of a matched anchor; None: 1

    @property
    def count(self) -> Tensor:
        """The weighted number of matched anchors, a scalar."""
        return (self.matched if self.weights is None else self.weights).sum()


def pad_targets(targets: Sequence[Mapping[str, Tensor]], *, like: Tensor) -> PaddedTargets:
    """Pad the targets of a batch; boxes get the type and device of `like`. `crowd_boxes` may be missing."""
    boxes, valid = _pad([target["boxes"] for target in targets], like)
    crowds, crowd_valid = _pad([target.get("crowd_boxes", like.new_zeros(0, 4)) for target in targets], like)
    labels = torch.zeros(valid.shape, dtype=torch.int64, device=like.device)
    for i, target in enumerate(targets):
        labels[i, : len(target["labels"])] = target["labels"]
    return PaddedTargets(boxes, labels, valid, crowds, crowd_valid)


def _pad(rows: Sequence[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    longest = max([1, *(len(row) for row in rows)])
    padded = like.new_zeros(len(rows), longest, 4)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool, device=like.device)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
        valid[i, : len(row)] = True
    return padded, valid


def match(boxes: Tensor, valid: Tensor, anchors: Tensor, *, threshold: float = 0.5, ties: Ties = "first") -> Tensor:
    """The index `[B, A]` of each anchor's box in `boxes [B, N, 4]`, or -1.

    An anchor takes the box it overlaps most if that is at least `threshold`; then each box takes its best anchor
    whatever the overlap. If two boxes want the same anchor, the `first` gets it in the reference (`ArgMaxMatcher`
    with `force_match_for_each_row`), the `last` in torchvision (`SSDMatcher`).
    """
    overlaps = iou(boxes, anchors).masked_fill_(~valid[..., None], -1)  # [B, N, A]
    best_overlap, best_box = overlaps.max(dim=1)
    matches = best_box.masked_fill_(best_overlap < threshold, -1)
    num_boxes = boxes.shape[1]
    nobody, reduce = (num_boxes, "amin") if ties == "first" else (-1, "amax")
    indices = torch.arange(num_boxes, device=boxes.device).expand_as(valid).masked_fill(~valid, nobody)
    forced = torch.full_like(matches, nobody).scatter_reduce_(1, overlaps.argmax(dim=2), indices, reduce)
    return torch.where(forced != nobody, forced, matches)


def assign(
    targets: Sequence[Mapping[str, Tensor]],
    anchors: Tensor,
    *,
    threshold: float = 0.5,
    ties: Ties = "first",
    crowd_fraction: float | None = 0.5,
) -> Assignment:
    """Match a batch of targets to `anchors [A, 4]`.

    Unmatched anchors with at least `crowd_fraction` of their area in one crowd box are ignored (None: never): such a
    region is full of unannotated objects, so it is not background.
    """
    padded = pad_targets(targets, like=anchors)
    matches = match(padded.boxes, padded.valid, anchors, threshold=threshold, ties=ties)
    return take_boxes(padded, matches.clamp(min=0), matches >= 0, anchors, crowd_fraction=crowd_fraction)


def take_boxes(
    padded: PaddedTargets,
    index: Tensor,
    matched: Tensor,
    anchors: Tensor,
    *,
    crowd_fraction: float | None,
    weights: Tensor | None = None,
    scores: Tensor | None = None,
) -> Assignment:
    """The assignment of the box at `index [B, A]` to each anchor that is `matched [B, A]`."""
    boxes = padded.boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return Assignment(
        labels=padded.labels.gather(1, index).masked_fill(~matched, 0),
        boxes=torch.where(matched[..., None], boxes, anchors),
        matched=matched,
        ignored=_in_crowds(anchors, padded, crowd_fraction) & ~matched,
        weights=weights,
        scores=scores,
    )


def _in_crowds(anchors: Tensor, padded: PaddedTargets, fraction: float | None) -> Tensor:
    """bool `[B, A]`: anchors with at least `fraction` of their area in one crowd box (None: no anchor)."""
    if fraction is None:
        return torch.zeros(len(padded.boxes), len(anchors), dtype=torch.bool, device=anchors.device)
    inside = (ioa(anchors, padded.crowd_boxes) >= fraction) & padded.crowd_valid[:, None, :]  # [B, A, M]
    return inside.any(dim=2)
