"""Task-aligned matching and its criterion, against a transcription box by box."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pocketvision.detection.aligned import align
from pocketvision.detection.anchors import AnchorLayout, make_anchors
from pocketvision.detection.boxes import decode
from pocketvision.detection.criterion import AlignedCriterion
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou_loss

NO_BOXES = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
ANCHORS = make_anchors(AnchorLayout(), [(s, s) for s in (16, 8, 4, 2, 1, 1)], (256, 256), dtype=torch.float64)


def predictions(batch: int, num_slots: int = 5, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, len(ANCHORS), num_slots, generator=generator, dtype=torch.float64) * 2 - 2
    deltas = torch.randn(batch, len(ANCHORS), 4, generator=generator, dtype=torch.float64)
    return {"class_logits": logits, "box_deltas": deltas, "anchors": ANCHORS}


def random_target(rng: np.random.Generator, num_slots: int = 5) -> dict[str, Tensor]:
    """Up to 12 boxes or none, from 3 pixels on; some twice, so that they want the same anchors."""
    count = int(rng.integers(0, 9)) * int(rng.integers(0, 4) > 0)
    low = rng.random((count, 2)) * 200
    boxes = np.concatenate((low, low + 3 + rng.random((count, 2)) ** 2 * 200), 1)
    boxes = np.concatenate((boxes, boxes[rng.integers(0, max(count, 1), count // 2)]))
    return {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(rng.integers(1, num_slots, len(boxes)))}


def slow_align(
    target: Mapping[str, Tensor], logits: Tensor, found: Tensor, count: int
) -> dict[int, tuple[int, float, float]]:
    """Anchor -> (row of its box, weight, score) of one image."""
    wishes: dict[int, list[tuple[float, int, float]]] = {}  # anchor: overlap, row, alignment
    for row, (box, label) in enumerate(zip(target["boxes"], target["labels"], strict=True)):
        overlaps = box_iou(box[None], found)[0]
        alignment = logits[:, label].sigmoid() * overlaps**6
        centers = (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2
        near = set(((centers > box[:2]) & (centers < box[2:])).all(1).nonzero().flatten().tolist())
        near |= set(box_iou(box[None], ANCHORS)[0].topk(count).indices.tolist())
        for anchor in sorted(near, key=lambda a: -alignment[a].item())[:count]:
            if alignment[anchor] > 0:
                wishes.setdefault(anchor, []).append((overlaps[anchor].item(), -row, alignment[anchor].item()))
    owner = {anchor: max(wanted) for anchor, wanted in wishes.items()}
    result = {}
    for anchor, (_, row, alignment) in owner.items():
        mine = [(a, o) for o, r, a in owner.values() if r == row]
        weight = alignment / max(a for a, _ in mine)
        result[anchor] = (-row, weight, weight * max(o for _, o in mine))
    return result


@pytest.mark.parametrize("seed", range(20))
def test_matches_are_those_of_a_slow_transcription(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = [random_target(rng) for _ in range(3)]
    outputs = predictions(3, seed=seed)
    boxes = decode(outputs["box_deltas"], ANCHORS)
    found = align(targets, ANCHORS, logits=outputs["class_logits"], boxes=boxes, num_anchors=7)
    assert found.weights is not None
    assert found.scores is not None
    for i, target in enumerate(targets):
        expected = slow_align(target, outputs["class_logits"][i], boxes[i], 7) if len(target["boxes"]) else {}
        assert found.matched[i].nonzero().flatten().tolist() == sorted(expected)
        assert not found.weights[i][~found.matched[i]].any()
        for anchor, (row, weight, score) in expected.items():
            assert found.labels[i, anchor] == target["labels"][row]
            assert torch.equal(found.boxes[i, anchor], target["boxes"][row])
            assert found.weights[i, anchor].item() == pytest.approx(weight, rel=1e-9)
            assert found.scores[i, anchor].item() == pytest.approx(score, rel=1e-9)


def test_no_boxes_match_nothing() -> None:
    outputs = predictions(2)
    found = align([NO_BOXES, NO_BOXES], ANCHORS, logits=outputs["class_logits"], boxes=ANCHORS.expand(2, -1, -1))
    assert found.count == 0
    assert torch.equal(found.boxes, ANCHORS.expand(2, -1, -1))


@pytest.mark.parametrize("side", [1.0, 3.0, 9.0])
def test_a_box_that_holds_no_anchors_centre_is_matched(side: float) -> None:
    """At stride 16 a centre lies at 8, 24, ...; matching by overlap needs a forced anchor there."""
    box = torch.tensor([[16.0, 16.0, 16.0 + side, 16.0 + side]], dtype=torch.float64)
    logits = torch.full((1, len(ANCHORS), 2), -4.6, dtype=torch.float64)
    found = align([{"boxes": box, "labels": torch.tensor([1])}], ANCHORS, logits=logits, boxes=ANCHORS[None])
    assert found.matched.sum() > 0
    assert found.weights is not None
    assert found.weights.max() == 1  # however badly it is predicted, it has an anchor that counts in full


def test_float32_tells_tiny_alignments_apart() -> None:
    """IoU^6 of a 1 pixel box is about 1e-18: relative weights have to survive that."""
    anchors = ANCHORS.float()
    box = torch.tensor([[100.0, 100.0, 101.0, 101.0]])
    logits = torch.full((1, len(anchors), 2), -4.6)
    found = align([{"boxes": box, "labels": torch.tensor([1])}], anchors, logits=logits, boxes=anchors[None])
    assert found.weights is not None
    assert found.weights.max() == 1
    assert found.weights.isfinite().all()


def test_the_losses_of_known_matches() -> None:
    rng = np.random.default_rng(3)
    targets = [random_target(rng) for _ in range(3)]
    outputs = predictions(3)
    boxes = decode(outputs["box_deltas"], ANCHORS)
    found = align(targets, ANCHORS, logits=outputs["class_logits"], boxes=boxes)
    assert found.weights is not None
    assert found.scores is not None
    wanted = torch.zeros_like(outputs["class_logits"])
    wanted.scatter_(2, found.labels[..., None], (found.scores * found.matched)[..., None])
    wanted[..., 0] = 0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs["class_logits"], wanted, reduction="none")
    losses, count = AlignedCriterion(class_weight=0.7).sums(outputs, targets)
    assert count.item() == pytest.approx(found.weights.sum().item())
    assert losses["loss_class"].item() == pytest.approx(0.7 * expected.sum().item(), rel=1e-9)
    giou = generalized_box_iou_loss(boxes[found.matched], found.boxes[found.matched], reduction="none")
    assert losses["loss_box"].item() == pytest.approx(2 * (giou * found.weights[found.matched]).sum().item(), rel=1e-6)
    focal, _ = AlignedCriterion(class_weight=0.7, gamma=1.5).sums(outputs, targets)
    weighted = expected * (wanted - outputs["class_logits"].sigmoid()).abs() ** 1.5
    assert focal["loss_class"].item() == pytest.approx(0.7 * weighted.sum().item(), rel=1e-9)


def test_what_is_learnt_does_not_reach_the_matching() -> None:
    """The targets are constants: the gradient of a score is (sigmoid - target) / 2, and that alone."""
    targets = [random_target(np.random.default_rng(1))]
    outputs = predictions(1)
    logits = outputs["class_logits"].requires_grad_()
    found = AlignedCriterion().assign(targets, ANCHORS, logits=logits, deltas=outputs["box_deltas"])
    assert found.scores is not None
    AlignedCriterion().sums(outputs, targets)[0]["loss_class"].backward()
    wanted = torch.zeros_like(logits).scatter_(2, found.labels[..., None], (found.scores * found.matched)[..., None])
    wanted[..., 0] = 0
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - wanted) / 2)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="anchors_per_box=0: expected 1 or more"):
        AlignedCriterion(anchors_per_box=0)
