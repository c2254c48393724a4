"""Deciding before decoding gives what albumentations gives, and a reduced decode leaves everything in its place."""

import albumentations as A
import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.sample import Pending, Sample
from pocketvision.datasets.augmentation.crops import IoUCrop, Plan, RandomScaleCrop, SSDRandomCrop, ZoomOut
from pocketvision.datasets.augmentation.planning import Drawn, best_reduction, planner_of, render
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.images.decode import decode_image
from pocketvision.datasets.images.decoder import Decoder, decode_checked, reduced_size
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.datasets.mask_folder import MaskFolder

COLORS = A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=(-0.05, 0.05), p=0.5)
POLICIES = {
    "none": [],
    "flip": [A.HorizontalFlip()],
    "ssd": [SSDRandomCrop(), A.HorizontalFlip()],
    "iou": [IoUCrop(), A.HorizontalFlip()],
    "zoom": [ZoomOut(), A.HorizontalFlip()],
    "scale": [RandomScaleCrop((120, 140)), A.HorizontalFlip()],
    "colors": [SSDRandomCrop(), A.HorizontalFlip(), COLORS],
    "sometimes": [IoUCrop(p=0.5), A.HorizontalFlip()],
}
RESIZES = [((96, 130), "stretch"), ((130, 96), "letterbox"), (None, "none")]


def _scene(height=150, width=201, *, count=6, seed=0):
    """Smooth colours, boxes, crowd regions and a mask of patches."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    corner = rng.uniform(0, 0.6, (count + 1, 2)) * [width, height]
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (count + 1, 2)) * [width, height]], 1)
    mask = cv2.resize(rng.integers(0, 4, (6, 8), np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return Sample(
        image, "scene", boxes=boxes[1:].astype(np.float32), labels=np.arange(1, count + 1),
        crowd_boxes=boxes[:1].astype(np.float32), crowd_labels=np.array([7]), mask=mask, path="scene.jpg",
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 6])
@pytest.mark.parametrize("resize", RESIZES, ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_planned_is_what_albumentations_makes(name, resize, count):
    planned, plain = (Transform(POLICIES[name], input_size=resize[0], resize=resize[1]) for _ in range(2))
    assert planned._planner is not None
    plain._planner = None
    sample, seen = _scene(count=count), set()
    for seed in range(12):
        (one, meta), (other, expected) = planned(sample, seed), plain(sample, seed)
        assert meta == expected
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.crowd_boxes, other.crowd_boxes, atol=0.01)
        assert (one.mask != other.mask).mean() < 0.04  # the nearest of one resampling or of two
        assert np.abs(one.image.astype(int) - other.image).mean() < 1.5
        seen.add(one.image.tobytes())
    assert len(seen) > (0 if name == "none" else 2 if count and name != "flip" else 1)


def test_a_classifiers_crop_is_planned_too():
    policy = [A.RandomResizedCrop((64, 48), scale=(0.2, 1)), A.HorizontalFlip(), COLORS]
    planned, plain = (Transform(policy, input_size=(64, 48), resize="stretch") for _ in range(2))
    plain._planner = None
    sample = Sample(_scene().image, "scene", label=3)
    for seed in range(12):
        assert np.abs(planned(sample, seed)[0].image.astype(int) - plain(sample, seed)[0].image).mean() < 1.5


@pytest.mark.parametrize(
    "policy",
    [
        [A.HorizontalFlip(), SSDRandomCrop()],
        [ZoomOut(), IoUCrop()],
        [IoUCrop(), A.VerticalFlip()],
        [IoUCrop(), A.GaussianBlur()],
        [A.OneOf([A.HorizontalFlip(), A.ColorJitter()])],
        [A.RandomResizedCrop((9, 9), area_for_downscale="image")],
    ],
    ids=lambda policy: ", ".join(type(step).__name__ for step in policy),
)
def test_what_is_not_planned(policy):
    assert planner_of(policy) is None


@pytest.mark.parametrize(
    ("window", "size", "target", "expected"),
    [
        ((0, 0, 640, 480), (480, 640), (320, 320), 1),
        ((0, 0, 640, 640), (640, 640), (320, 320), 2),
        ((0, 0, 640, 639), (640, 640), (320, 320), 1),
        ((0, 0, 4032, 3024), (3024, 4032), (320, 320), 8),
        ((1000, 500, 2500, 1900), (3024, 4032), (320, 320), 4),
        ((0, 0, 641, 642), (642, 641), (320, 320), 1),  # an odd side
        ((0, 0, 3000, 3000), (3000, 4004), (320, 320), 4),  # 4004 is no multiple of 8
    ],
)
def test_reductions(window, size, target, expected):
    drawn = Drawn(Plan(window, (window[3] - window[1], window[2] - window[0])), None, False)
    assert best_reduction(drawn, size, target) == expected


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A large jpeg with some detail in it."""
    rng = np.random.default_rng(1)
    image = cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), (1280, 960), interpolation=cv2.INTER_CUBIC)
    path = tmp_path_factory.mktemp("photo") / "large.jpg"
    cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tofile(path)
    return path


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("window", [(0, 0, 1280, 960), (3, 5, 1219, 947), (101, 50, 1102, 951)], ids=str)
def test_a_reduced_picture_is_in_the_same_place(photo, window, reduction):
    drawn = Drawn(Plan(window, (window[3] - window[1], window[2] - window[0])), None, True)
    full, reduced = decode_image(photo), decode_image(photo, reduction=reduction)
    assert reduced.shape[:2] == reduced_size((960, 1280), reduction)

    def difference(shift):
        left, top, right, bottom = drawn.plan.window
        moved = Drawn(Plan((left + shift, top, right + shift, bottom), drawn.plan.size), None, True)
        one = render(reduced, drawn, (100, 110), reduction=reduction)
        return np.abs(one.astype(float) - render(full, moved, (100, 110))).mean()

    if window[2] < 1270 and window[0] > 2:  # there is room to move
        assert difference(0) < min(difference(2), difference(-2))
    assert difference(0) < {2: 1.5, 4: 4, 8: 12}[reduction]  # fine detail is averaged, not picked


@pytest.mark.parametrize(("sides", "expected"), [((33, 17), (17, 9)), ((32, 16), (16, 8))])
def test_reduced_sizes_are_rounded_up(tmp_path, sides, expected):
    for ending, size in ((".jpg", expected), (".png", sides)):
        path = tmp_path / f"x{ending}"
        cv2.imencode(ending, np.full((*sides, 3), 90, np.uint8))[1].tofile(path)
        assert decode_image(path, reduction=2).shape[:2] == size
    assert decode_checked(2, decoder=Decoder(), path=tmp_path / "x.jpg", size=sides, source="a").shape[:2] == expected
    with pytest.raises(ValueError, match=rf"{sides[1]}x{sides[0]} .* a says 80x70"):  # the whole size, not the reduced
        decode_checked(2, decoder=Decoder(), path=tmp_path / "x.jpg", size=(70, 80), source="a")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_pictures_are_turned_as_exif_says(tmp_path, photo, orientation):
    from PIL import Image

    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = orientation
    Image.open(photo).save(path, exif=exif, quality=95)
    full, reduced = decode_image(path), decode_image(path, reduction=4)
    assert full.shape[:2] == ((960, 1280) if orientation < 5 else (1280, 960))
    expected = cv2.resize(full, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).mean() < 2


def test_evaluation_never_reduces(photo):
    with pytest.raises(ValueError, match=r"reduced=True .* exact=True"):
        Transform(input_size=(32, 32), resize="stretch", exact=True, reduced=True)
    asked = []

    def decode(reduction):
        asked.append(reduction)
        return decode_image(photo, reduction=reduction)

    pending = Pending(Sample(np.zeros((0, 0, 3), np.uint8), 0), (960, 1280), decode)
    for exact, reduced in ((True, False), (False, False), (False, True)):
        done, meta = Transform(input_size=(96, 96), resize="stretch", exact=exact, reduced=reduced)(pending, 0)
        assert (done.image.shape, meta["original_size"]) == ((96, 96, 3), (960, 1280))
    assert asked == [1, 1, 8]


def test_photographs_of_coco(data_root):
    source = CocoDetection(root=data_root / "coco_mini", limit=40)
    policy, changed = [IoUCrop(), A.HorizontalFlip()], 0
    plain, reduced = (
        AugmentedDataset(source, transform=Transform(policy, input_size=(128, 128), resize="stretch", reduced=reduced))
        for reduced in (False, True)
    )
    for index in range(len(source)):
        (one, target, _), (other, expected, _) = plain[0, index], reduced[0, index]
        assert all(np.array_equal(target[key], expected[key]) for key in expected)
        difference = np.abs(one.numpy().astype(int) - other.numpy()).mean()
        changed += difference > 0
        assert difference < 20
    assert changed > 10


@pytest.mark.parametrize("policy", [[IoUCrop()], [A.VerticalFlip()]], ids=["planned", "plain"])
def test_a_picture_that_does_not_decode_is_no_fault_of_the_transform(tmp_path, photo, policy):
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "images" / "x.jpg").write_bytes(photo.read_bytes()[:100])
    cv2.imencode(".png", np.zeros((960, 1280), np.uint8))[1].tofile(tmp_path / "train" / "labels" / "x.png")
    source = MaskFolder(tmp_path, classes=["a"])
    dataset = AugmentedDataset(source, transform=Transform(policy, input_size=(32, 32), resize="stretch"))
    with pytest.raises(ValueError, match=r"x\.jpg cannot be decoded") as raised:
        dataset[0, 0]
    assert not hasattr(raised.value, "__notes__")
    pending = source.open(0)
    with pytest.raises(ValueError, match=r"x\.jpg") as raised:
        pending.read()
    assert pending.fault is raised.value
