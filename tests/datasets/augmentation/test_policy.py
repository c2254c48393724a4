"""The resize, the policy's seeding, and that boxes and masks move with the pixels."""

import warnings
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pocketvision.datasets.annotations.sample import Sample
from pocketvision.datasets.augmentation.crops import IoUCrop, RandomScaleCrop, SSDRandomCrop, ZoomOut
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.augmentation.resize import center_crop, prepare, resize_bilinear, resize_mask

BOX = np.array([[60, 30, 150, 110]], np.float32)


def _sample(boxes=BOX, *, crowd=(), mask=False, size=(160, 200)):
    """Boxes are drawn white on black, so that the image itself says where they are."""
    boxes, crowd = (np.array(b, np.float32).reshape(-1, 4) for b in (boxes, crowd))
    image = np.zeros((*size, 3), np.uint8)
    for x0, y0, x1, y1 in boxes.astype(int):
        image[y0:y1, x0:x1] = 255
    labels, crowd_labels = (np.arange(1, len(b) + 1) for b in (boxes, crowd))
    return Sample(
        image, 5, boxes=boxes, labels=labels, crowd_boxes=crowd, crowd_labels=crowd_labels,
        mask=(image[..., 0] == 255).astype(np.uint8) if mask else None, path="p.jpg",
    )  # fmt: skip


def _extent(picture):
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


@pytest.mark.parametrize(
    "sizes", [((1, 1), (3, 4)), ((480, 640), (320, 320)), ((91, 33), (320, 317)), ((64, 64), (16, 16))]
)
def test_resize_is_torchs_bilinear_without_antialias(sizes):
    image = np.random.default_rng(0).integers(0, 256, (*sizes[0], 3), np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    exact = F.interpolate(tensor, size=sizes[1], mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    found = resize_bilinear(image, sizes[1])
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() <= 1


def test_resize_to_the_same_size_is_the_image():
    image = np.zeros((4, 5, 3), np.uint8)
    assert resize_bilinear(image, (4, 5)) is image


def test_mask_stays_on_the_image():
    """A mask's edge is where the image's edge crosses the half, also for odd ratios."""
    image = np.zeros((90, 90, 3), np.uint8)
    image[20:67, 31:78] = 255
    for size in ((33, 61), (90, 45), (200, 130)):
        mask = resize_mask((image[..., 0] > 0).astype(np.uint8), size)
        picture = resize_bilinear(image, size)[..., 0]
        assert np.abs(mask * 255.0 - picture)[np.abs(picture - 127.5) > 127].max() == 0
        assert set(np.unique(mask)) == {0, 1}


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        (None, "none", {"input_size": (100, 200), "pad": (0, 0, 0, 0)}),
        ((80, 80), "stretch", {"input_size": (80, 80), "pad": (0, 0, 0, 0)}),
        ((80, 80), "letterbox", {"input_size": (80, 80), "pad": (0, 0, 0, 40)}),
        ((200, 80), "letterbox", {"input_size": (200, 80), "pad": (0, 0, 0, 160)}),
        ((50, 300), "letterbox", {"input_size": (50, 300), "pad": (0, 0, 200, 0)}),
        ((60, 60), "shorter", {"input_size": (60, 120), "pad": (0, 0, 0, 0)}),
    ],
)
def test_prepare(size, resize, expected):
    image, meta = prepare(np.full((100, 200, 3), 9, np.uint8), size, resize)
    assert meta == {"original_size": (100, 200), **expected}
    assert image.shape[:2] == meta["input_size"]
    bottom, right = image.shape[0] - meta["pad"][3], image.shape[1] - meta["pad"][2]
    assert (image[:bottom, :right] == 9).all()
    assert (image[bottom:] == 128).all()
    assert (image[:, right:] == 128).all()


def test_evaluation_is_prepare():
    sample = _sample(mask=True)
    sample.ground_truth = {"mask": sample.mask}
    for size, resize in ((None, "none"), ((64, 96), "stretch"), ((64, 96), "letterbox")):
        done, meta = Transform([], input_size=size, resize=resize)(sample, 0)
        image, expected = prepare(sample.image, size, resize)
        assert meta == expected
        np.testing.assert_array_equal(done.image, image)
        assert done.mask.shape == image.shape[:2]
        assert done.ground_truth["mask"].shape == sample.image.shape[:2]


@pytest.mark.parametrize("policy", [[], [A.HorizontalFlip(p=1)], [SSDRandomCrop()], [IoUCrop()], [ZoomOut(p=1)]])
def test_no_boxes(policy):
    for crowd in ((), BOX):
        done, _ = Transform(policy, input_size=(50, 40), resize="stretch")(_sample([], crowd=crowd), 1)
        assert (done.image.shape, done.boxes.shape, done.boxes.dtype) == ((50, 40, 3), (0, 4), np.float32)
        assert (done.labels.shape, done.labels.dtype) == ((0,), np.int64)
        assert done.crowd_boxes.shape == (len(crowd), 4)
        assert done.crowd_labels.dtype == np.int64


def test_a_sample_without_truth_is_transformed_too():
    sample = Sample(np.zeros((20, 30, 3), np.uint8), "x")
    done, _ = Transform([A.HorizontalFlip(p=1)], input_size=(10, 10), resize="letterbox")(sample, 0)
    assert (done.image.shape, done.boxes, done.mask) == ((10, 10, 3), None, None)


POLICIES = {
    "none": [],
    "flip": [A.HorizontalFlip(p=1), A.VerticalFlip(p=1)],
    "ssd": [SSDRandomCrop(skip=0)],
    "flip, ssd": [A.HorizontalFlip(), SSDRandomCrop()],
    "iou": [IoUCrop()],
    "zoom, iou": [ZoomOut(p=1), IoUCrop()],
    "scale": [RandomScaleCrop((120, 140)), A.HorizontalFlip()],
    "scale, small": [RandomScaleCrop((60, 50), scale=(1, 1.5))],
    "albumentations": [A.RandomResizedCrop((90, 90), scale=(0.4, 1)), A.Transpose(p=0.5)],
}


@pytest.mark.parametrize("resize", [((96, 130), "stretch"), ((130, 96), "letterbox"), (None, "none")], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_boxes_and_masks_move_with_the_pixels(name, resize):
    transform = Transform(POLICIES[name], input_size=resize[0], resize=resize[1])
    kept = 0
    for seed in range(25):
        done, meta = transform(_sample(mask=True), seed)
        assert done.image.shape[:2] == done.mask.shape == meta["input_size"]
        white = done.image[..., 0] > 191  # what is padded is 128 and has mask 255
        assert (white == (done.mask == 1)).mean() > 0.95
        for box, label in zip(done.boxes, done.labels, strict=True):
            kept += 1
            assert label == 1
            np.testing.assert_allclose(box, _extent(done.mask == 1), atol=2.6)
            np.testing.assert_allclose(box, _extent(done.image[..., 0] > 191), atol=2.6)
    assert kept >= 15


def test_labels_and_crowds_stay_with_their_boxes():
    boxes, crowd = [[0, 0, 20, 20], [100, 0, 120, 20], [180, 140, 199, 159]], [[0, 100, 40, 160], [150, 0, 200, 50]]
    transform = Transform([A.HorizontalFlip(p=1)], input_size=(80, 100), resize="stretch")
    done, _ = transform(_sample(boxes, crowd=crowd), 0)
    np.testing.assert_allclose(done.boxes, [[90, 0, 100, 10], [40, 0, 50, 10], [0.5, 70, 10, 79.5]], atol=1e-4)
    np.testing.assert_allclose(done.crowd_boxes, [[80, 50, 100, 80], [0, 0, 25, 25]], atol=1e-4)
    assert (done.labels.tolist(), done.crowd_labels.tolist()) == ([1, 2, 3], [1, 2])
    cut = Transform([A.Crop(90, 0, 200, 160)], input_size=None, resize="none")
    done, _ = cut(_sample(boxes, crowd=crowd), 0)
    assert (done.labels.tolist(), done.crowd_labels.tolist()) == ([2, 3], [2])


def test_boxes_that_become_too_small_are_dropped():
    sample = _sample([[0, 0, 3, 100], [0, 0, 8, 100]])
    assert Transform([], input_size=(160, 50), resize="stretch")(sample, 0)[0].labels.tolist() == [2]
    anything = Transform([], input_size=(160, 50), resize="stretch", min_box_size=0)
    assert anything(sample, 0)[0].labels.tolist() == [1, 2]


def test_the_seed_decides_and_nothing_else():
    sample = _sample(mask=True)
    transform = Transform([A.HorizontalFlip(), SSDRandomCrop(), A.ColorJitter()], input_size=(32, 32), resize="stretch")
    first = {seed: transform(sample, seed)[0] for seed in range(6)}
    np.random.seed(3)
    for seed in reversed(range(6)):
        again = transform(sample, seed)[0]
        for key in ("image", "mask", "boxes"):
            np.testing.assert_array_equal(getattr(again, key), getattr(first[seed], key))
    assert len({sample.image.tobytes() for sample in first.values()}) > 1


def test_transforms_of_a_policy_are_independent():
    """Seeding every transform alike would make all coins of one sample fall alike."""
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = [10, 20, 30]
    transform = Transform([A.HorizontalFlip(), A.VerticalFlip()], input_size=None, resize="none")
    corners = [tuple(np.argwhere(transform(Sample(image, 0), seed)[0].image[..., 0] == 10)[0]) for seed in range(400)]
    counts = [corners.count(corner) for corner in ((0, 0), (0, 2), (1, 0), (1, 2))]
    assert sum(counts) == 400
    assert min(counts) > 60


def test_a_mistyped_argument_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = A.RandomBrightnessContrast(brightnes_limit=0.3)
    for policy in ([wrong], [A.OneOf([A.HorizontalFlip(), wrong])], [A.Sequential([A.SomeOf([wrong])])]):
        with pytest.raises(ValueError, match=r"no argument brightnes_limit: choose from .*brightness_limit"):
            Transform(policy, input_size=None, resize="none")
    for crop in (SSDRandomCrop, IoUCrop, ZoomOut, RandomScaleCrop):
        with pytest.raises(TypeError, match="overlapp"):
            crop(overlapp=1)


@pytest.mark.parametrize(
    ("size", "resize", "message"),
    [
        (None, "stretch", "need an input_size"),
        ((3, 4), "none", "input_size null"),
        ((3, 4), "crop", "unknown resize 'crop': choose one of stretch, letterbox, shorter, center_crop"),
    ],
)
def test_contradictions(size, resize, message):
    with pytest.raises(ValueError, match=message):
        Transform([], input_size=size, resize=resize)
    with pytest.raises(ValueError, match=message):
        prepare(np.zeros((5, 5, 3), np.uint8), size, resize)


# ---- central crop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "fraction", "expected"),
    [
        ((1, 1), 0.875, (0, 0, 1, 1)),
        ((8, 16), 1.0, (0, 0, 8, 16)),
        ((8, 16), 0.875, (0, 1, 8, 14)),
        ((300, 400), 0.875, (18, 25, 264, 350)),
        ((7, 9), 0.5, (1, 2, 5, 5)),
    ],
)
def test_the_middle_of_an_image(size, fraction, expected):
    image = np.arange(size[0] * size[1] * 3).reshape(*size, 3)
    top, left, height, width = expected
    assert np.array_equal(center_crop(image, fraction), image[top : top + height, left : left + width])


def test_central_crop_then_stretch():
    image = np.random.default_rng(0).integers(0, 256, (80, 160, 3), np.uint8)
    found, meta = prepare(image, (32, 48), "center_crop", crop_fraction=0.5)
    assert np.array_equal(found, resize_bilinear(image[20:60, 40:120], (32, 48), exact=True))
    assert meta == {"original_size": (80, 160), "input_size": (32, 48), "pad": (0, 0, 0, 0)}


def test_the_official_evaluation_sees_our_crop(tf_rule):
    """TF-slim's central crop, on TensorFlow 1's grid without half-pixel centres: ours moves pixels by half of one."""
    golden = np.load(Path(__file__).parents[2] / "assets" / "tf" / "cls_v3_large__evalpre.npz")
    image = tf_rule.image_u8(str(golden["image_key"]), tuple(golden["image_shape"]))
    expected = (golden["pre_sub"][0] + 1) * 127.5  # [::5, ::5] of 224x224
    crop = center_crop(image, 0.875).astype(np.float64)
    scale = np.array(crop.shape[:2]) / 224
    y, x = (np.arange(0, 224, 5) * factor for factor in scale)

    def sampled(y, x):
        low_y, low_x = np.floor(y).astype(int), np.floor(x).astype(int)
        wy, wx = (y - low_y)[:, None, None], (x - low_x)[None, :, None]
        high_y, high_x = np.minimum(low_y + 1, crop.shape[0] - 1), np.minimum(low_x + 1, crop.shape[1] - 1)
        above = crop[low_y][:, low_x] * (1 - wx) + crop[low_y][:, high_x] * wx
        below = crop[high_y][:, low_x] * (1 - wx) + crop[high_y][:, high_x] * wx
        return above * (1 - wy) + below * wy

    assert np.abs(sampled(y, x) - expected).max() < 5e-3  # the float32 of its grid
    half = (scale - 1) / 2
    ours = prepare(image, (224, 224), "center_crop")[0][::5, ::5]
    assert np.abs(sampled(y + half[0], x + half[1]) - ours).max() < 1e-2
    assert np.abs(ours - expected).mean() > 1


def test_a_central_crop_of_boxes_is_refused():
    with pytest.raises(ValueError, match="would crop boxes and masks"):
        Transform([], input_size=(8, 8), resize="center_crop")(_sample([[0, 0, 9, 9]]), 0)
    with pytest.raises(ValueError, match=r"crop_fraction=0: expected"):
        Transform([], input_size=(8, 8), resize="center_crop", crop_fraction=0)
