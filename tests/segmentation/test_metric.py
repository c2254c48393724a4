"""MeanIoU against loops over pixels, and Cityscapes' rules case by case."""

import pickle

import numpy as np
import pytest
import torch
from pocketvision.segmentation.metric import MeanIoU

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
    assert MeanIoU(NAMES, categories=CATEGORIES).compute() == {
        "mIoU": 0.0,
        "pixel_accuracy": 0.0,
        "mIoU_category": 0.0,
    }


def test_all_ignored_counts_nothing():
    metric = MeanIoU(NAMES)
    add(metric, [[0, 1]], [[255, 255]])
    assert metric.compute() == {"mIoU": 0.0, "pixel_accuracy": 0.0}


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
        # predicted without truth: 0, and in the mean; neither (bus, sky): left out
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
    assert metric.compute() == expected


def test_confusion_inside_a_category_is_no_error_of_it():
    metric = MeanIoU(NAMES, categories=CATEGORIES)
    add(metric, [[1, 2]], [[2, 1]])
    results = metric.compute()
    assert results["mIoU"] == 0
    assert results["category/vehicle"] == results["mIoU_category"] == 1
    assert "category/sky" not in results


def test_each_image_counts_once_and_states_merge():
    rng = np.random.default_rng(1)
    images = {f"image{i}": (rng.integers(0, 4, (6, 7)), rng.integers(0, 4, (6, 7))) for i in range(5)}
    ranks = [MeanIoU(NAMES), MeanIoU(NAMES)]
    single = MeanIoU(NAMES)
    for index, (image_id, (prediction, truth)) in enumerate(images.items()):
        add(single, prediction, truth, image_id)
        add(ranks[index % 2], prediction, truth, image_id)
    add(ranks[1], *images["image0"], "image0")  # what a sampler repeats to fill up the last round
    add(single, *images["image0"], "image0")
    states = [pickle.loads(pickle.dumps(rank.state())) for rank in ranks]
    for rank in ranks:
        rank.merge(states)
        assert rank.compute() == single.compute()
    assert single.confusion().sum() == 5 * 6 * 7
    single.reset()
    assert single.confusion().sum() == 0


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanIoU({1: "a", 2: "b"}), r"cover the slots 0\.\.K-1"),
        (lambda: MeanIoU({}), r"cover the slots 0\.\.K-1"),
        (lambda: MeanIoU(NAMES, categories={"x": [0, 7]}), r"category 'x' has slots \[7\]"),
        (lambda: add(MeanIoU(NAMES), [[0, 1]], [[0], [1]], "a.png"), r"image 'a.png': prediction of size \(1, 2\)"),
        (lambda: add(MeanIoU(NAMES), [[0, 1]], [[0, 19]], "a.png"), r"image 'a.png': truth has labels \[19\]"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
