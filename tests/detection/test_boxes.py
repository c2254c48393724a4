import pytest
import torch
import torchvision.ops as ops
from pocketvision.detection.boxes import (
    GROWTH_LIMIT,
    area,
    clip_to_images,
    cxcywh_to_xyxy,
    decode,
    encode,
    generalized_iou,
    ioa,
    iou,
    to_original,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from pocketvision.detection.results import Detections
from torchvision.models.detection._utils import BoxCoder


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=generator, dtype=torch.float64) * 100
    return torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:] + 1), dim=1)


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (3, 0), (5, 7)])
def test_iou_is_torchvisions(counts: tuple[int, int]) -> None:
    boxes, others = random_boxes(counts[0]), random_boxes(counts[1], seed=1)
    torch.testing.assert_close(iou(boxes, others), ops.box_iou(boxes, others), rtol=1e-14, atol=0)
    assert iou(boxes, others).shape == counts


@pytest.mark.parametrize(
    "others",
    [
        random_boxes(40, seed=1),
        random_boxes(40) + 300,  # apart
        random_boxes(40),  # the same
        random_boxes(40)[:, [2, 1, 2, 3]] + torch.tensor([0.0, 0, 10, 0]),  # edge to edge
        random_boxes(40)[:, [0, 1, 0, 1]],  # a corner, without area
    ],
)
def test_generalized_iou_is_torchvisions_with_its_gradient(others: torch.Tensor) -> None:
    boxes = random_boxes(40).requires_grad_()
    ours, theirs = 1 - generalized_iou(boxes, others), ops.generalized_box_iou_loss(boxes, others)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad((loss * torch.arange(40)).sum(), boxes)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_generalized_iou_of_points() -> None:
    point = torch.tensor([[5.0, 5, 5, 5]], requires_grad=True)
    found = generalized_iou(point, point.detach())
    assert found.item() == 0
    assert torch.autograd.grad(found.sum(), point)[0].isfinite().all()


def test_boxes_without_area_overlap_nothing() -> None:
    point = torch.tensor([[5.0, 5, 5, 5]])
    around = torch.tensor([[0.0, 0, 10, 10]])
    assert iou(point, point).item() == iou(point, around).item() == ioa(point, around).item() == 0


@pytest.mark.parametrize(
    ("box", "other", "share"),
    [([0, 0, 10, 10], [5, 0, 20, 10], 0.5), ([0, 0, 10, 10], [-5, -5, 20, 20], 1), ([0, 0, 9, 9], [9, 0, 20, 9], 0)],
)
def test_ioa_is_the_share_of_the_first(box: list[float], other: list[float], share: float) -> None:
    assert ioa(torch.tensor([box]).double(), torch.tensor([other]).double()).item() == share


def test_conversions_return() -> None:
    boxes = random_boxes(6)
    assert xyxy_to_xywh(torch.tensor([[1.0, 2, 11, 7]])).tolist() == [[1, 2, 10, 5]]
    torch.testing.assert_close(cxcywh_to_xyxy(*xyxy_to_cxcywh(boxes)), boxes)
    torch.testing.assert_close(area(boxes), ops.box_area(boxes))


def test_coding_is_torchvisions() -> None:
    boxes, anchors = random_boxes(50), random_boxes(50, seed=1)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    deltas = encode(boxes, anchors)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, anchors), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(decode(deltas, anchors), boxes)
    wild = deltas * 20
    expected = coder.decode_single(wild, anchors)
    torch.testing.assert_close(decode(wild, anchors, max_log_size=GROWTH_LIMIT), expected, rtol=1e-12, atol=1e-9)
    assert not torch.allclose(decode(wild, anchors), expected)


def test_a_box_without_area_has_finite_deltas() -> None:
    assert encode(torch.tensor([[3.0, 3, 3, 3]]), torch.tensor([[0.0, 0, 10, 10]])).isfinite().all()


def test_back_to_original_pixels() -> None:
    metas = [
        {"original_size": (50, 200), "input_size": (100, 100)},
        # letterboxed: 200x100 to 80x40 with 10 pixels left and right, 20 above, 40 below
        {"original_size": (100, 200), "input_size": (100, 100), "pad": (10, 20, 10, 40)},
    ]
    boxes = torch.tensor([[[10.0, 20, 50, 60]], [[10.0, 20, 90, 60]]])
    expected = torch.tensor([[[20.0, 10, 100, 30]], [[0.0, 0, 200, 100]]])
    torch.testing.assert_close(to_original(boxes, metas), expected)
    torch.testing.assert_close(to_original(boxes[:1].expand(1, 3, 4)[:, :0], metas[:1]), torch.zeros(1, 0, 4))


def test_clipping() -> None:
    clipped = clip_to_images(torch.tensor([[-5.0, 2, 30, 70]]), torch.tensor([20.0, 60, 20, 60]))
    assert clipped.tolist() == [[0, 2, 20, 60]]


def test_detections() -> None:
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(empty) == len(empty.to("cpu")) == 0
    with pytest.raises(ValueError, match=r"got \(\(2, 4\), \(1,\), \(2,\)\)"):
        Detections(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2))
