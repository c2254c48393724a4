from typing import Any

import pytest
import torch
from pocketvision.detection.matching import assign, match, pad_targets
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [100, 100, 140, 140]])
NO_BOXES = torch.zeros(0, 4)


def target(boxes: Any, labels: list[int], **more: Any) -> dict[str, Tensor]:
    crowds = {name: torch.tensor(value).float().reshape(-1, 4) for name, value in more.items()}
    return {
        "boxes": torch.tensor(boxes).float().reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        **crowds,
    }


@pytest.mark.parametrize(
    ("boxes", "ties", "expected"),
    [
        ([], "first", [-1, -1, -1, -1]),
        ([[0, 0, 10, 10]], "first", [0, -1, -1, -1]),
        ([[0, 0, 10, 5]], "first", [0, -1, -1, -1]),  # exactly 0.5 is enough
        ([[0, 0, 3, 3]], "first", [0, -1, -1, -1]),  # forced
        ([[5, 0, 15, 10]], "first", [0, -1, -1, -1]),  # two best anchors: the first
        ([[0, 0, 10, 10], [0, 0, 10, 10]], "first", [0, -1, -1, -1]),  # two boxes want one anchor
        ([[0, 0, 10, 10], [0, 0, 10, 10]], "last", [1, -1, -1, -1]),
        ([[0, 0, 10, 10], [0, 0, 9, 9]], "last", [1, -1, -1, -1]),  # forced beats a better overlap
        ([[200, 200, 210, 210]], "first", [0, -1, -1, -1]),  # overlaps nothing, still forced: argmax of zeros
    ],
)
def test_rules(boxes: list[list[float]], ties: Any, expected: list[int]) -> None:
    padded = pad_targets([target(boxes, [1] * len(boxes)), target([[100, 100, 140, 140]] * 5, [1] * 5)], like=ANCHORS)
    matches = match(padded.boxes, padded.valid, ANCHORS, ties=ties)
    assert matches[0].tolist() == expected


def crowded_boxes(generator: torch.Generator, count: int) -> Tensor:
    low = torch.rand(count, 2, generator=generator) * 80
    boxes = torch.cat((low, low + 2 + torch.rand(count, 2, generator=generator) * 60), dim=1)
    duplicates = torch.randint(0, max(count, 1), (count // 3,), generator=generator)
    return torch.cat((boxes, boxes[duplicates]))


def test_last_is_torchvisions_matcher() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = crowded_boxes(generator, 150)
    batch = [crowded_boxes(generator, count) for count in (*range(1, 30), 0)]
    padded = pad_targets([{"boxes": b, "labels": torch.ones(len(b), dtype=torch.int64)} for b in batch], like=anchors)
    matches = match(padded.boxes, padded.valid, anchors, ties="last")
    matcher = SSDMatcher(0.5)
    for boxes, row in zip(batch, matches, strict=True):
        expected = matcher(box_iou(boxes, anchors)) if len(boxes) else torch.full((len(anchors),), -1)
        assert torch.equal(row, expected)
    assert not torch.equal(matches, match(padded.boxes, padded.valid, anchors, ties="first"))


def test_assignment() -> None:
    nothing = target([], [])
    found = assign([nothing, target([[0, 0, 10, 10], [10, 0, 20, 10]], [3, 7])], ANCHORS)
    assert found.labels.tolist() == [[0, 0, 0, 0], [3, 7, 0, 0]]
    assert found.matched.tolist() == [[False] * 4, [True, True, False, False]]
    assert torch.equal(found.boxes, ANCHORS.expand(2, 4, 4)), "unmatched anchors stand for themselves"
    assert not found.ignored.any()


def test_crowds() -> None:
    inside_half = target([[0, 0, 10, 10]], [1], crowd_boxes=[[0, 0, 15, 14.9], [90, 90, 115, 200]])
    found = assign([inside_half, target([], [], crowd_boxes=[]), target([], [])], ANCHORS)
    # matched, half inside the first, 49 % inside, 15 of 40 columns inside
    assert found.ignored.tolist() == [[False, True, False, False], [False] * 4, [False] * 4]
    assert not assign([inside_half], ANCHORS, crowd_fraction=None).ignored.any()
    assert assign([inside_half], ANCHORS, crowd_fraction=0.3).ignored.tolist() == [[False, True, True, True]]
