"""Crops: the rule and the distribution of each, against a slow transcription or torchvision."""

import numpy as np
import pytest
import torch
from pocketvision.datasets.augmentation.crops import (
    IoUCrop,
    RandomScaleCrop,
    SSDRandomCrop,
    ZoomOut,
    box_areas,
    covered,
    iou,
)
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2

BOXES = np.array([[60.0, 30, 150, 110, 0], [5, 5, 30, 60, 1], [180, 100, 199, 158, -1]])
SIZE = (160, 200)


def _plans(crop, boxes, number, seed=0):
    crop.random_generator = np.random.default_rng(seed)
    return [crop.plan(boxes, *SIZE) for _ in range(number)]


def test_box_functions():
    rng = np.random.default_rng(0)
    boxes, windows = (np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4) for n in (7, 5))
    np.testing.assert_allclose(iou(boxes, windows), box_iou(torch.from_numpy(windows), torch.from_numpy(boxes)))
    assert iou(boxes[:0], windows).shape == covered(boxes[:0], windows).shape == (5, 0)
    np.testing.assert_allclose(covered(boxes, boxes[:1])[0, 0], 1)
    assert box_areas(np.array([3.0, 3, 1, 5])) == 0


def _slow_reference_window(rng, boxes, height, width, overlap):
    """sample_distorted_bounding_box one attempt after the other, in scalars."""
    for _ in range(100):
        aspect = rng.uniform(0.5, 2)
        low_area, high_area = 0.1 * height * width, 1.0 * height * width
        h, high = round((low_area / aspect) ** 0.5), round((high_area / aspect) ** 0.5)
        if round(high * aspect) > width:
            high = int((width + 0.5 - 1e-7) / aspect)
            if round(high * aspect) > width:
                high -= 1
        high = min(high, height)
        h = min(h, high)
        h += rng.integers(high - h + 1)
        w = round(h * aspect)
        if h * w < low_area:
            h, w = h + 1, round((h + 1) * aspect)
        if h * w > high_area:
            h, w = h - 1, round((h - 1) * aspect)
        if not (low_area <= h * w <= high_area and 0 < w <= width and 0 < h <= height):
            continue
        top = rng.integers(height - h) if h < height else 0
        left = rng.integers(width - w) if w < width else 0
        window = np.array([[left, top, left + w, top + h]])
        if (covered(boxes, window) >= overlap).any():
            return window[0]
    return np.array([0, 0, width, height])


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_ssd_windows_are_distributed_as_the_references(overlap):
    rng = np.random.default_rng(1)
    objects = np.floor(BOXES[:2, :4])
    slow = np.array([_slow_reference_window(rng, objects, *SIZE, overlap) for _ in range(1500)])
    fast = np.array([p.window for p in _plans(SSDRandomCrop(overlaps=[overlap], skip=0), BOXES, 1500)])
    for values in (slow, fast):
        assert values.min() >= 0
        assert (values[:, 2:] <= [200, 160]).all()
    deciles = np.arange(0.1, 1, 0.1)
    for measure in (lambda w: w, lambda w: w[:, 2:] - w[:, :2]):
        difference = np.quantile(measure(slow), deciles, axis=0) - np.quantile(measure(fast), deciles, axis=0)
        assert np.abs(difference).max() < 12  # pixels; the standard error of a decile here is about 3
    area = box_areas(fast) / (SIZE[0] * SIZE[1])
    aspect = (fast[:, 2] - fast[:, 0]) / (fast[:, 3] - fast[:, 1])
    assert area.min() >= 0.1
    assert aspect.min() > 0.48
    assert aspect.max() < 2.1


def test_ssd_keeps_boxes_by_the_share_inside():
    for overlap in (0.0, 0.3, 0.7, 1.0):
        decided = set()
        for plan in _plans(SSDRandomCrop(overlaps=[overlap], skip=0), BOXES, 100):
            share = covered(BOXES[:, :4], np.array([plan.window]))[0]
            expected = [s >= overlap and s > 0 for s in share[:2]]
            assert plan.keep.tolist() == [*expected, True]  # crowd regions are only cut
            decided |= set(expected)
        assert decided == {True, False}


def test_ssd_skips_and_leaves_the_image_where_nothing_fits():
    whole = [p.window == (0, 0, 200, 160) for p in _plans(SSDRandomCrop(), BOXES, 2000)]
    assert 0.12 < np.mean(whole) < 0.20  # 15 % and the few crops that are the whole image
    tiny = np.array([[3.0, 3, 3.5, 3.5]])  # below one pixel: no object for the reference
    assert all(p.window == (0, 0, 200, 160) for p in _plans(SSDRandomCrop(), tiny, 50))


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), BOXES[2:]], ids=["no boxes", "only crowd"])
def test_ssd_without_objects_crops_anywhere(boxes):
    plans = _plans(SSDRandomCrop(overlaps=[0.5], skip=0), boxes, 100)
    shares = [box_areas(np.array(p.window)) / 32000 for p in plans]
    assert min(shares) >= 0.5  # the whole image stands for the object
    assert len({p.window for p in plans}) > 50


def test_iou_crop_is_torchvisions():
    torch.manual_seed(0)
    theirs = v2.RandomIoUCrop()
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES[:2, :4]), format="XYXY", canvas_size=SIZE)
    params = [theirs.make_params([torch.zeros(3, *SIZE), boxes]) for _ in range(400)]
    whole = {"left": 0, "top": 0, "width": 200, "height": 160}
    slow = np.array([[p.get(key, value) for key, value in whole.items()] for p in params])
    plans = _plans(IoUCrop(), BOXES, 1500)
    fast = np.array([(*p.window[:2], *p.size[::-1]) for p in plans])
    difference = np.quantile(slow, np.arange(0.1, 1, 0.1), axis=0) - np.quantile(fast, np.arange(0.1, 1, 0.1), axis=0)
    assert np.abs(difference).max() < 18
    kept = np.mean([p.get("is_within_crop_area", torch.ones(2)).float().mean().item() for p in params])
    assert abs(kept - np.mean([1 if p.keep is None else p.keep[:2].mean() for p in plans])) < 0.04
    for plan in plans[:200]:
        if plan.keep is not None:
            centers = (BOXES[:2, :2] + BOXES[:2, 2:4]) / 2
            left, top, right, bottom = plan.window
            inside = ((centers > [left, top]) & (centers < [right, bottom])).all(1)
            assert plan.keep[:2].tolist() == inside.tolist()


def test_iou_crop_without_boxes_is_the_image():
    for boxes in (np.zeros((0, 4)), BOXES[2:]):
        assert all(p.window == (0, 0, 200, 160) for p in _plans(IoUCrop(), boxes, 20))


def test_zoom_out():
    plans = _plans(ZoomOut(side_range=(1, 3)), BOXES, 500)
    pads = np.array([p.pad for p in plans])
    assert pads.min() >= 0
    widths, heights = 200 + pads[:, 0] + pads[:, 2], 160 + pads[:, 1] + pads[:, 3]
    assert abs(np.mean(widths) - 400) < 20
    assert widths.max() <= 600
    np.testing.assert_allclose(heights / widths, 0.8, atol=0.01)
    done = ZoomOut(p=1, fill=(1, 2, 3))(image=np.full((4, 5, 3), 9, np.uint8), mask=np.zeros((4, 5), np.uint8))
    assert {tuple(pixel) for pixel in done["image"].reshape(-1, 3).tolist()} <= {(1, 2, 3), (9, 9, 9)}
    assert (done["mask"] == 0).sum() == 20


def test_scale_crop():
    for size in ((96, 128), (400, 64), (64, 500)):
        plans = _plans(RandomScaleCrop(size), BOXES, 300)
        for plan in plans:
            left, top, right, bottom = plan.window
            assert 0 <= left < right <= 200
            assert 0 <= top < bottom <= 160
            assert (plan.size[0] + plan.pad[3], plan.size[1] + plan.pad[2]) == size
            across, down = plan.size[1] / (right - left), plan.size[0] / (bottom - top)
            assert across == pytest.approx(down, rel=0.02)
            assert 0.49 < across < 2.03
        assert len({p.window for p in plans}) > 30


def test_scale_crop_on_a_grid_of_scales():
    plans = _plans(RandomScaleCrop((1000, 1000), step=0.25), BOXES, 300)
    assert {p.size[0] / 160 for p in plans} == {0.5, 0.75, 1, 1.25, 1.5, 1.75, 2}
    fixed = _plans(RandomScaleCrop((1000, 1000), scale=(1, 1)), BOXES, 3)
    assert {p.size for p in fixed} == {SIZE}


@pytest.mark.parametrize(
    ("resize", "expected"), [("letterbox", (80, 100)), ("shorter", (120, 150)), ("stretch", (120, 100))]
)
def test_scale_crop_of_what_evaluation_sees(resize, expected):
    """Of the image of 160x200: a scale of 1 is the image at that size, and all scales are relative to it."""
    plans = _plans(RandomScaleCrop((300, 300), scale=(1, 1), fit=(120, 100), resize=resize), BOXES, 3)
    assert {p.size for p in plans} == {expected}
    assert {p.window for p in plans} == {(0, 0, 200, 160)}
    plans = _plans(RandomScaleCrop((40, 40), scale=(2, 2), fit=(80, 100), resize=resize), BOXES, 30)
    assert {(p.window[2] - p.window[0], p.window[3] - p.window[1]) for p in plans} == {(40, 40)}


@pytest.mark.parametrize(
    ("crop", "arguments", "message"),
    [
        (IoUCrop, {"overlaps": [0.5]}, r"overlaps=\(0\.5,\): one must be 1\.0 or more"),
        (ZoomOut, {"side_range": (0.5, 2)}, "expected 1 <= smallest"),
        (RandomScaleCrop, {"size": (5, 5), "resize": "letterbox"}, "need an input_size"),
        *(
            (RandomScaleCrop, {"size": (5, 5), **wrong}, "expected 0 < smallest <= largest and a positive step")
            for wrong in ({"scale": (0, 1)}, {"scale": (2, 1)}, {"step": 0})
        ),
    ],
)
def test_wrong_arguments(crop, arguments, message):
    with pytest.raises(ValueError, match=message):
        crop(**arguments)


def test_scale_crop_pads_with_the_mean_and_ignore():
    done = RandomScaleCrop((30, 40), scale=(0.5, 0.5))(
        image=np.zeros((20, 20, 3), np.uint8), mask=np.ones((20, 20), np.uint8)
    )
    assert (done["image"][:10, :10] == 0).all()
    assert (done["image"][10:] == 128).all()
    assert (done["mask"][:10, :10] == 1).all()
    assert (done["mask"] == 255).sum() == 30 * 40 - 100
