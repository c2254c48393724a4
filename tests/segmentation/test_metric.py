"""MeanIoU against loops over pixels, and Cityscapes' rules case by case."""

import numpy as np
import pytest
import torch
from pocketvision.absent import known
from pocketvision.segmentation.metric import MeanIoU, joint_histogram

NAMES = {0: "road", 1: "car", 2: "bus", 3: "sky"}
CATEGORIES = {"flat": [0], "vehicle": [1, 2], "sky": [3]}


def add(metric, prediction, truth, image_id=0, **meta):
    truth = np.asarray(truth, dtype=np.uint8)
    meta = {"image_id": image_id, "original_size": truth.shape, "ground_truth": {"mask": truth}, **meta}
    metric.update([torch.as_tensor(prediction, dtype=torch.uint8)], [{}], [meta])


def slow_iou(predictions, truths, slots):
    """From the definition: TP / (TP + FP + FN), pixel by pixel."""
    tp = fp = fn = 0
    for prediction, truth in zip(predictions, truths, strict=True):
        for guess, real in zip(prediction.ravel(), truth.ravel(), strict=True):
            if real != 255:
                tp += guess in slots and real in slots
                fp += guess in slots and real not in slots
                fn += guess not in slots and real in slots
    return tp / (tp + fp + fn)


def test_nothing_seen():
    found = MeanIoU(NAMES, categories=CATEGORIES).compute()
    assert found.keys() >= {"mIoU", "pixel_accuracy", "mIoU_category", "IoU/sky"}
    assert set(found.values()) == {None}


def test_all_ignored_counts_nothing():
    metric = MeanIoU(NAMES)
    add(metric, [[0, 1]], [[255, 255]])
    assert set(metric.compute().values()) == {None}
    assert all(np.isnan(values).all() for values in metric.bootstrap(3).values())


def test_equals_loops():
    rng = np.random.default_rng(0)
    truths = [rng.choice([0, 1, 2, 3, 255], size) for size in ((9, 11), (7, 5), (8, 8))]
    predictions = [np.where(rng.random(t.shape) < 0.6, t, rng.integers(0, 5, t.shape)) for t in truths]
    metric = MeanIoU(NAMES, categories=CATEGORIES)
    for index, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        add(metric, prediction, truth, image_id=index)
    results = metric.compute()
    of_classes = {name: slow_iou(predictions, truths, {slot}) for slot, name in NAMES.items()}
    of_categories = {name: slow_iou(predictions, truths, set(slots)) for name, slots in CATEGORIES.items()}
    for name, value in of_classes.items():
        assert results[f"IoU/{name}"] == pytest.approx(value)
    for name, value in of_categories.items():
        assert results[f"category/{name}"] == pytest.approx(value)
    assert results["mIoU"] == pytest.approx(np.mean(list(of_classes.values())))
    assert results["mIoU_category"] == pytest.approx(np.mean(list(of_categories.values())))
    valid = np.concatenate([t.ravel() for t in truths]) != 255
    right = np.concatenate([(p == t).ravel() for p, t in zip(predictions, truths, strict=True)])
    assert results["pixel_accuracy"] == pytest.approx(right[valid].mean())


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        # predicted without truth (car): 0, and in the mean; neither (bus, sky): absent, and not in the mean
        ([[0, 0, 1, 1]], [[0, 0, 0, 0]], {"IoU/road": 0.5, "IoU/car": 0.0, "mIoU": 0.25, "pixel_accuracy": 0.5}),
        # ignored pixels are no false alarms
        ([[0, 0, 1, 1]], [[0, 0, 255, 255]], {"IoU/road": 1.0, "mIoU": 1.0, "pixel_accuracy": 1.0}),
        # a void prediction is a miss and nobody's false alarm
        ([[0, 19, 1, 255]], [[0, 0, 1, 1]], {"IoU/road": 0.5, "IoU/car": 0.5, "mIoU": 0.5, "pixel_accuracy": 0.5}),
    ],
)
def test_rules(prediction, truth, expected):
    metric = MeanIoU(NAMES)
    add(metric, prediction, truth)
    absent = dict.fromkeys(f"IoU/{name}" for name in NAMES.values())
    assert metric.compute() == absent | expected
    assert {key: known(values[0].item()) for key, values in metric.bootstrap(1).items()} == absent | expected


def test_confusion_inside_a_category_is_no_error_of_it():
    metric = MeanIoU(NAMES, categories=CATEGORIES)
    add(metric, [[1, 2]], [[2, 1]])
    results = metric.compute()
    assert results["mIoU"] == 0
    assert results["category/vehicle"] == results["mIoU_category"] == 1
    assert results["category/sky"] is None


def test_each_image_counts_once():
    metric = MeanIoU(NAMES)
    for image_id in ("a", "b", "a"):  # what a sampler repeats to fill up the last round
        add(metric, [[0, 1, 2]], [[0, 1, 3]], image_id)
    assert metric.confusion().sum() == 6
    assert metric.confusion("b").sum() == 3


def test_truth_from_the_target_is_mapped_back():
    """Without ground truth in the meta: padding off, then nearest label at the original size."""
    labels = torch.tensor([[0, 1], [2, 3]])
    mask = torch.full((5, 6), 255)
    mask[1:3, 2:4] = labels
    original = labels.repeat_interleave(3, 0).repeat_interleave(3, 1)
    meta = {"image_id": 0, "original_size": (6, 6), "input_size": (5, 6), "pad": (2, 1, 2, 2)}
    metric = MeanIoU(NAMES)
    metric.update([original.to(torch.uint8)], [{"mask": mask.to(torch.uint8)}], [meta])
    assert metric.compute()["mIoU"] == 1.0
    assert metric.confusion().sum() == 36


INSTANCES = {1: (26, 4.0), 2: (28, 6.0)}
# Two cars of one and of three pixels, a group of cars (no count), a bus.
WITH_IDS = ([[1, 1, 2, 0], [0, 2, 1, 3]], [[1, 1, 1, 1], [1, 2, 2, 3]])
IDS = np.array([[26000, 26001, 26001, 26001], [26, 28007, 28007, 23]], np.uint16)


def add_with_instances(metric, prediction, truth, ids, image_id=0):
    add(metric, prediction, truth, image_id, ground_truth={"mask": np.uint8(truth), "instances": ids})


def test_instances_count_as_if_of_average_size():
    metric = MeanIoU(NAMES, categories=CATEGORIES, instances=INSTANCES)
    add_with_instances(metric, *WITH_IDS, IDS)
    results = metric.compute()
    cars, bus = (4 * 1 + 4 / 3 * 1, 4 / 3 * 2), (6 / 2 * 1, 6 / 2 * 1)  # found, missed; then the false alarms
    assert results["iIoU/car"] == pytest.approx(cars[0] / (sum(cars) + 1))
    assert results["iIoU/bus"] == pytest.approx(bus[0] / (sum(bus) + 1))
    assert results["iIoU"] == pytest.approx((results["iIoU/car"] + results["iIoU/bus"]) / 2)
    found, missed = 4 * 1 + 4 / 3 * 2 + 6 / 2 * 2, 4 / 3 * 1
    assert results["category_iIoU/vehicle"] == results["iIoU_category"] == pytest.approx(found / (found + missed))
    assert not {"iIoU/road", "category_iIoU/flat"} & set(results)


def test_no_iiou_unless_every_image_tells_instances():
    metric = MeanIoU(NAMES, instances=INSTANCES)
    assert "iIoU" not in metric.compute()
    add_with_instances(metric, *WITH_IDS, IDS)
    assert "iIoU" in metric.compute()
    add(metric, *WITH_IDS, image_id=1)
    assert "iIoU" not in metric.compute()


def lively_metric(num_images, seed=2):
    """A metric with images of unequal size, and the images; few show class 3."""
    rng = np.random.default_rng(seed)
    metric, images = MeanIoU(NAMES), {}
    for number in rng.permutation(num_images).tolist():  # not added in the order of their ids
        size = rng.integers(3, 9, 2)
        truth = rng.choice([0, 1, 2, 255], size)
        truth[0, 0] = 3 if number == 1 else 0
        images[number] = np.where(rng.random(size) < 0.5, truth, rng.integers(0, 3, size)), truth
        add(metric, *images[number], number)
    return metric, images


def test_bootstrap_equals_the_metric_on_resampled_images():
    metric, images = lively_metric(6)
    weights = np.array([[1] * 6, [0, 6, 0, 0, 0, 0], [2, 0, 1, 1, 0, 2]])
    found = metric.bootstrap(3, 0, weights=weights)
    for row, counts in enumerate(weights):
        resampled = MeanIoU(NAMES)
        for number, count in enumerate(counts):
            for copy in range(count):
                add(resampled, *images[number], (number, copy))
        assert {k: known(v[row]) for k, v in found.items()} == pytest.approx(resampled.compute())
    assert np.isnan(found["IoU/sky"][2])
    assert not np.isnan(found["IoU/sky"][:2]).any()


def test_bootstrap_draws_by_its_seed():
    metric, _ = lively_metric(40)
    samples = metric.bootstrap(300, 7)
    assert all(np.array_equal(v, metric.bootstrap(300, 7)[k], equal_nan=True) for k, v in samples.items())
    assert not np.array_equal(samples["mIoU"], metric.bootstrap(300, 8)["mIoU"])
    assert samples["pixel_accuracy"].std() > 0.005
    assert samples["pixel_accuracy"].mean() == pytest.approx(metric.compute()["pixel_accuracy"], abs=0.01)


def test_large_images_count_exactly(monkeypatch):
    """OpenCV's histograms count to 2^24: beyond, an image is taken in strips."""
    monkeypatch.setattr("pocketvision.segmentation.metric._HISTOGRAM_PIXELS", 20)
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 256, (2, 13, 9)).astype(np.uint8)
    expected = np.zeros((256, 256), np.int64)
    np.add.at(expected, (first, second), 1)
    np.testing.assert_array_equal(joint_histogram(first, second), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanIoU(NAMES, instances={7: (26, 1.0)}), r"instances has the class indices \[7\]"),
        (lambda: MeanIoU(NAMES, instances={1: (66, 1.0)}), r"instances with class id 66: expected 1 to 64"),
        (lambda: MeanIoU(NAMES, categories=CATEGORIES, unscored={2: "flat"}), r"unscored \{2: 'flat'\}"),
        (lambda: MeanIoU(NAMES, unscored={9: "flat"}), r"unscored \{9: 'flat'\}"),
        (lambda: add_with_instances(MeanIoU(NAMES), [[0, 1]], [[0, 1]], IDS, "a.png"), r"instances of \(2, 4\)"),
        (lambda: MeanIoU(NAMES).bootstrap(5, 0), "5 samples from 0 images"),
        (lambda: lively_metric(3)[0].bootstrap(0, 0), "0 samples from 3 images"),
        (lambda: lively_metric(3)[0].bootstrap(2, 0, weights=np.ones((2, 4))), r"= \[2, 3\], got \[2, 4\]"),
        (lambda: MeanIoU({1: "a", 2: "b"}), r"cover the slots 0\.\.K-1"),
        (lambda: MeanIoU({}), r"cover the slots 0\.\.K-1"),
        (lambda: MeanIoU(NAMES, categories={"x": [0, 7]}), r"category 'x' has the class indices \[7\]"),
        (lambda: add(MeanIoU(NAMES), [[0, 1]], [[0], [1]], "a.png"), r"image 'a.png': prediction of size \(1, 2\)"),
        (
            lambda: add(MeanIoU(NAMES), [[0, 1]], [[0, 19]], "a.png"),
            r"image 'a.png': the ground truth has labels \[19\]",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
