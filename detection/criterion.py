"""The losses of SSDLite: the reference's focal loss, torchvision's hard-negative mining, and a task-aligned loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.checks import check_choice, check_number
from ..backbones.layers import at_least_float32
from .aligned import align
from .boxes import GROWTH_LIMIT, decode, encode, generalized_iou
from .matching import Assignment, Ties, assign

Outputs = Mapping[str, Tensor]
Targets = Sequence[Mapping[str, Tensor]]
SlotLoss = Callable[[Tensor], Tensor]
BoxLoss = Literal["huber", "giou"]
Activation = Literal["sigmoid", "softmax"]


class DetectionCriterion(nn.Module):
    """Base of all losses: the box loss, and division by the batch's (weighted) number of matched anchors.

    `sums` are for loops that add up over ranks and accumulation steps before they divide by the count:
    `max(1, count, least_matches * images)`.
    """

    activation: Activation = "sigmoid"  # from logits to scores; postprocess must use the same
    least_matches: float = 0.0  # minimum count per image, on average

    def __init__(self, *, crowd_fraction: float | None, box_weight: float, box_loss: BoxLoss) -> None:
        super().__init__()
        check_choice("box_loss", box_loss, ("huber", "giou"))
        if crowd_fraction is not None:
            check_number("crowd_fraction", crowd_fraction, most=1)
        check_number("box_weight", box_weight)
        self.crowd_fraction = crowd_fraction
        self.box_weight = box_weight
        self.box_loss = box_loss

    def forward(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """`loss_class` and `loss_box`, scalars, per matched anchor."""
        sums, count = self.sums(outputs, targets)
        count = count.clamp(min=max(1.0, self.least_matches * len(targets)))
        return {name: value / count for name, value in sums.items()}

    def sums(self, outputs: Outputs, targets: Targets) -> tuple[dict[str, Tensor], Tensor]:
        """The same before division, and the number of matched anchors, a float scalar; no device sync."""
        logits, deltas = at_least_float32(outputs["class_logits"]), at_least_float32(outputs["box_deltas"])
        anchors = outputs["anchors"].to(deltas.dtype)
        assignment = self.assign(targets, anchors, logits=logits, deltas=deltas)
        # A NaN box overlaps nothing: matched by predictions, it would not affect the loss.
        spoiled = torch.where(deltas.isfinite().all(), 0.0, math.nan)
        sums = {
            "loss_class": self.class_loss(logits, assignment),
            "loss_box": self.box_weight * self._box_loss(deltas, anchors, assignment) + spoiled,
        }
        return sums, assignment.count.to(deltas.dtype)

    def assign(self, targets: Targets, anchors: Tensor, *, logits: Tensor, deltas: Tensor) -> Assignment:
        """The targets of each of `anchors [A, 4]`; `logits [B, A, K]` and `deltas [B, A, 4]` are its predictions."""
        raise NotImplementedError

    def class_loss(self, logits: Tensor, assignment: Assignment) -> Tensor:
        """The summed loss of `logits [B, A, K]`."""
        raise NotImplementedError

    def _box_loss(self, deltas: Tensor, anchors: Tensor, assignment: Assignment) -> Tensor:
        # Unmatched anchors predict themselves and have themselves as target: what is masked below is finite, and so
        # is its gradient.
        deltas = deltas.masked_fill(~assignment.matched[..., None], 0)
        if self.box_loss == "giou":
            losses = 1 - generalized_iou(decode(deltas, anchors, max_log_size=GROWTH_LIMIT), assignment.boxes)
        else:
            losses = F.smooth_l1_loss(deltas, encode(assignment.boxes, anchors), reduction="none").sum(dim=-1)
        if assignment.weights is not None:
            losses = losses * assignment.weights
        return losses.masked_fill(~assignment.matched, 0).sum()


def _one_slot_each(logits: Tensor, assignment: Assignment, *, zero: SlotLoss, match: SlotLoss) -> Tensor:
    """The sum over `logits [B, A, K]` whose targets are zeros, except for the slot of each matched anchor."""
    # Nearly all are zeros: compute that loss everywhere, then correct the one slot.
    zeros = zero(logits).sum(dim=-1).masked_fill(assignment.ignored, 0)
    chosen = logits.gather(2, assignment.labels[..., None]).squeeze(2)
    return (zeros + (match(chosen) - zero(chosen)).masked_fill(~assignment.matched, 0)).sum()


class OverlapCriterion(DetectionCriterion):
    """Matches anchors only by their overlap with boxes, like both references, see `matching.match`."""

    def __init__(
        self, *, threshold: float, ties: Ties, crowd_fraction: float | None, box_weight: float, box_loss: BoxLoss
    ) -> None:
        super().__init__(crowd_fraction=crowd_fraction, box_weight=box_weight, box_loss=box_loss)
        check_choice("ties", ties, ("first", "last"))
        check_number("threshold", threshold, most=1)
        self.threshold = threshold
        self.ties: Ties = ties

    def assign(self, targets: Targets, anchors: Tensor, *, logits: Tensor, deltas: Tensor) -> Assignment:
        return assign(targets, anchors, threshold=self.threshold, ties=self.ties, crowd_fraction=self.crowd_fraction)


class FocalCriterion(OverlapCriterion):
    """Sigmoid focal loss over all slots and Huber loss / 4, like the reference (TF `SSDMetaArch`).

    The targets of an unmatched anchor are all zero, those of a matched one have a 1 in its slot; slot 0, the
    background, is always zero. `alpha` weighs the ones, `1 - alpha` the zeros.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.75,
        gamma: float = 2.0,
        threshold: float = 0.5,
        ties: Ties = "first",
        crowd_fraction: float | None = 0.5,
        box_weight: float = 0.25,
        box_loss: BoxLoss = "huber",
    ) -> None:
        super().__init__(
            threshold=threshold, ties=ties, crowd_fraction=crowd_fraction, box_weight=box_weight, box_loss=box_loss
        )
        check_number("alpha", alpha, most=1)
        check_number("gamma", gamma)
        self.alpha = alpha
        self.gamma = gamma

    def class_loss(self, logits: Tensor, assignment: Assignment) -> Tensor:
        return _one_slot_each(logits, assignment, zero=self._zero_loss, match=self._one_loss)

    def _one_loss(self, logits: Tensor) -> Tensor:
        return self.alpha * torch.sigmoid(-logits) ** self.gamma * F.softplus(-logits)

    def _zero_loss(self, logits: Tensor) -> Tensor:
        return (1 - self.alpha) * torch.sigmoid(logits) ** self.gamma * F.softplus(logits)


class HardNegativeCriterion(OverlapCriterion):
    """Softmax cross-entropy with the hardest negatives of each image and smooth L1, like torchvision's `SSD`.

    An image has `negatives_per_positive` negatives for each matched anchor, at least `min_negatives`: with 0, as in
    torchvision, nothing is learned from an image without boxes.
    """

    activation = "softmax"

    def __init__(
        self,
        *,
        negatives_per_positive: float = 3.0,
        min_negatives: int = 0,
        label_smoothing: float = 0.0,
        threshold: float = 0.5,
        ties: Ties = "last",
        crowd_fraction: float | None = 0.5,
        box_weight: float = 1.0,
        box_loss: BoxLoss = "huber",
    ) -> None:
        super().__init__(
            threshold=threshold, ties=ties, crowd_fraction=crowd_fraction, box_weight=box_weight, box_loss=box_loss
        )
        check_number("negatives_per_positive", negatives_per_positive)
        check_number("min_negatives", min_negatives, whole=True)
        check_number("label_smoothing", label_smoothing, most=1)
        self.negatives_per_positive = negatives_per_positive
        self.min_negatives = min_negatives
        self.label_smoothing = label_smoothing

    def class_loss(self, logits: Tensor, assignment: Assignment) -> Tensor:
        losses = F.cross_entropy(
            logits.flatten(0, 1),
            assignment.labels.flatten(),
            reduction="none",
            label_smoothing=self.label_smoothing,
        ).unflatten(0, assignment.labels.shape)
        positives = losses.masked_fill(~assignment.matched, 0).sum()
        # Losses are not negative, so candidates that must not be chosen sort last and add nothing if they are.
        hardest = losses.masked_fill(assignment.matched | assignment.ignored, 0).sort(dim=1, descending=True).values
        wanted = self.negatives_per_positive * assignment.matched.sum(dim=1, keepdim=True)
        rank = torch.arange(losses.shape[1], device=losses.device)
        return positives + hardest.masked_fill(rank >= wanted.clamp(min=self.min_negatives), 0).sum()


class AlignedCriterion(DetectionCriterion):
    """Cross-entropy towards each match's quality and an IoU loss, with task-aligned matching (`aligned.align`).

    A score learns the quality of its anchor's box, so the best boxes of an object rank first; boxes too small to
    overlap any anchor by half, and objects that share an anchor, have anchors of their own. Negative and positive
    anchors weigh the same, unlike in the focal loss: with it, the soft targets are learned several times more slowly. A
    `gamma` of 1 or more weighs each term by |target - score|^gamma, the quality focal loss.

    The loss of a batch with fewer boxes than images is divided by the images (`least_matches`): cross-entropy sums over
    all anchors, and a step without boxes would weigh a hundred times as much as one with boxes.
    """

    def __init__(
        self,
        *,
        class_weight: float = 0.5,
        gamma: float = 0.0,
        score_power: float = 1.0,
        overlap_power: float = 6.0,
        anchors_per_box: int = 10,
        least_matches: float = 1.0,
        crowd_fraction: float | None = 0.5,
        box_weight: float = 2.0,
        box_loss: BoxLoss = "giou",
    ) -> None:
        super().__init__(crowd_fraction=crowd_fraction, box_weight=box_weight, box_loss=box_loss)
        check_number("anchors_per_box", anchors_per_box, least=1, whole=True)
        check_number("gamma", gamma)
        if 0 < gamma < 1:  # the gradient is infinite if a score is exactly right
            raise ValueError(f"gamma={gamma}: expected 0, or 1 or more")
        numbers = {"class_weight": class_weight, "score_power": score_power, "overlap_power": overlap_power,
                   "least_matches": least_matches}  # fmt: skip
        for name, value in numbers.items():
            check_number(name, value)
        self.class_weight = class_weight
        self.gamma = gamma
        self.score_power = score_power
        self.overlap_power = overlap_power
        self.anchors_per_box = anchors_per_box
        self.least_matches = least_matches

    def assign(self, targets: Targets, anchors: Tensor, *, logits: Tensor, deltas: Tensor) -> Assignment:
        return align(
            targets,
            anchors,
            logits=logits,
            boxes=decode(deltas.detach(), anchors, max_log_size=GROWTH_LIMIT),
            score_power=self.score_power,
            overlap_power=self.overlap_power,
            num_anchors=self.anchors_per_box,
            crowd_fraction=self.crowd_fraction,
        )

    def class_loss(self, logits: Tensor, assignment: Assignment) -> Tensor:
        scores = assignment.scores
        assert scores is not None
        return self.class_weight * _one_slot_each(
            logits,
            assignment,
            zero=lambda logits: self._cross_entropy(logits, 0),
            match=lambda logits: self._cross_entropy(logits, scores),
        )

    def _cross_entropy(self, logits: Tensor, scores: Tensor | float) -> Tensor:
        losses = F.softplus(logits) - scores * logits
        return losses * (scores - logits.sigmoid()).abs() ** self.gamma if self.gamma else losses
