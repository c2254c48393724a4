"""Every kind of error by hand, curves and figures beside pycocotools, sums that have to hold."""

from typing import Any

import numpy as np
import pytest
from pocketvision.detection.analysis import DetectionAnalysis, analyse
from pocketvision.detection.errors import KINDS
from pocketvision.detection.metric import CocoMetric

NAMES = {1: "cat", 3: "dog"}
TRUTH = (0.0, 0.0, 100.0, 100.0, 1)  # x, y, w, h, slot
Box = tuple[float, ...]


def of_image(
    metric: CocoMetric, image: int, found: list[Box], truth: list[Box], crowd: list[bool] | None = None
) -> None:
    boxes, truths = np.array(found, float).reshape(-1, 6), np.array(truth, float).reshape(-1, 5)
    metric.add(
        image,
        {"boxes_xywh": boxes[:, :4], "labels": boxes[:, 4].astype(int), "scores": boxes[:, 5]},
        {
            "boxes_xywh": truths[:, :4],
            "labels": truths[:, 4].astype(int),
            "area": truths[:, 2] * truths[:, 3],
            "crowd": np.array(crowd or [False] * len(truths), bool),
        },
    )


def one_image(
    found: list[Box], truth: list[Box], *, crowd: list[bool] | None = None, **options: Any
) -> DetectionAnalysis:
    metric = CocoMetric(NAMES)
    of_image(metric, 5, found, truth, crowd)
    return analyse(metric, **options)


def test_nothing_at_all() -> None:
    found = analyse(CocoMetric(NAMES))
    assert found.images == {}
    assert found.confusion.tolist() == np.zeros((3, 3)).tolist()
    assert found.errors == dict.fromkeys(KINDS)
    assert [(c.ap, c.ap50, c.ap75, c.ar, c.num_truths, c.best_threshold, c.best_f1) for c in found.classes] == [
        (None, None, None, None, 0, None, None)
    ] * 2
    found = one_image([], [TRUTH])
    assert (found.classes[0].ap, found.classes[0].ar, found.images[5].missed) == (0, 0, [0])
    assert found.errors == dict.fromkeys(KINDS, 0.0) | {"missed": 1.0}
    found = one_image([(*TRUTH, 0.4)], [])
    assert (found.score_threshold, found.images[5].kinds) == (0.5, [])  # nothing is ever right
    found = one_image([(*TRUTH, 0.4)], [], score_threshold=0.1)
    assert found.images[5].kinds == ["background"]


@pytest.mark.parametrize(
    ("kind", "box", "row"),
    [
        ("correct", (0, 0, 100, 90, 1), 0),
        ("classification", (0, 0, 100, 90, 3), 0),
        ("localisation", (0, 0, 100, 40, 1), 2),  # IoU 0.4
        ("both", (0, 0, 100, 40, 3), 2),
        ("background", (0, 0, 100, 9, 1), 2),  # IoU 0.09
        ("background", (300, 300, 10, 10, 3), 2),
    ],
)
def test_each_kind_alone(kind: str, box: Box, row: int) -> None:
    found = one_image([(*box, 0.9)], [TRUTH], score_threshold=0.5)
    assert found.images[5].kinds == [kind]
    column = [1, 3].index(int(box[4]))
    expected = np.zeros((3, 3), int)
    expected[row, column] += 1
    if row == 2:
        expected[0, 2] += 1  # nobody found the cat
    assert found.confusion.tolist() == expected.tolist()
    assert found.images[5].missed == ([] if kind == "correct" else [0])
    # What put right gives a perfect result costs everything, and nothing else costs anything.
    missed = {"missed": 1.0} if kind in ("both", "background") else {}
    costs = {kind: 1.0} if kind in ("classification", "localisation") else missed
    assert found.errors == pytest.approx(dict.fromkeys(KINDS, 0.0) | costs)


def test_duplicates_and_crowds() -> None:
    found = one_image(
        [(*TRUTH, 0.9), (0, 0, 100, 95, 1, 0.8), (200, 0, 20, 20, 1, 0.7), (0, 0, 100, 95, 1, 0.1)],
        [TRUTH, (200, 0, 100, 100, 1)],
        crowd=[False, True],
        score_threshold=0.5,
    )
    assert found.images[5].kinds == ["correct", "duplicate", "ignored"]
    assert found.images[5].detections.tolist() == [0, 1, 2]
    assert found.images[5].missed == []
    assert found.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert found.classes[0].num_truths == 1


def test_costs_are_differences_of_average_precision() -> None:
    """Two cats, one found below a background box: AP50 = 51 / 101 x 1/2; without the box 51 / 101."""
    metric = CocoMetric(NAMES)
    of_image(metric, 1, [(300, 0, 50, 50, 1, 0.9), (*TRUTH, 0.8)], [TRUTH])
    of_image(metric, 2, [], [TRUTH])
    found = analyse(metric, score_threshold=0.85)
    assert found.classes[0].ap50 == pytest.approx(51 / 101 / 2)
    assert found.errors["background"] == pytest.approx(51 / 101 / 2)
    assert found.errors["missed"] == pytest.approx(0.5 - 51 / 101 / 2)
    assert found.images[1].kinds == ["background"]
    assert found.images[1].missed == [0]  # the cat scores less than the threshold


def test_the_best_error_for_an_annotation_is_put_right_and_the_others_go() -> None:
    found = one_image([(0, 0, 100, 40, 1, 0.9), (0, 0, 100, 45, 1, 0.8)], [TRUTH])
    assert found.errors["localisation"] == pytest.approx(1)
    assert found.errors["missed"] == 0  # a wrong box points at it


def test_one_annotation_is_confused_once() -> None:
    found = one_image([(*TRUTH[:4], 3, 0.9), (*TRUTH[:4], 3, 0.8)], [TRUTH], score_threshold=0)
    assert found.confusion.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_pycocotools_and_sums_hold(coco_files: Any, seed: int) -> None:
    truth, results = coco_files.made_up(seed)
    metric = coco_files.metric(truth, results)
    expected = coco_files.pycocotools(truth, results).eval
    found = analyse(metric, score_threshold=0.4)
    assert set(np.concatenate([i.kinds for i in found.images.values()])) >= {"correct", *KINDS[:-1]}
    for k, one in enumerate(found.classes):
        if not one.num_truths:
            assert (one.ap, one.ap50, one.ap75, one.ar, one.best_f1) == (None,) * 5
            continue
        precision, recall = expected["precision"][:, :, k, 0, 2], expected["recall"][:, k, 0, 2]
        np.testing.assert_array_equal(one.precision, precision[0])
        assert [one.ap, one.ap50, one.ap75] == pytest.approx([precision.mean(), *precision[[0, 5]].mean(1)])
        assert one.ar == pytest.approx(recall.mean())
        assert one.best_f1 >= one.f1.max()
        assert found.confusion[k, :].sum() == one.num_truths
    kinds = [kind for image in found.images.values() for kind in image.kinds if kind != "ignored"]
    assert found.confusion[:, :-1].sum() == len(kinds)
    assert np.trace(found.confusion) == kinds.count("correct")
    kept = sum(result["score"] >= 0.4 for result in results)
    assert sum(len(image.kinds) for image in found.images.values()) == kept
    assert all(0 <= loss < 1 for loss in found.errors.values())


def test_f1_by_hand(coco_files: Any) -> None:
    """The best threshold from all scores, one by one."""
    truth, results = coco_files.made_up(4, crowds=0)
    metric = coco_files.metric(truth, results)
    matches = metric.matches()
    for one in [one for one in analyse(metric).classes if one.num_truths]:
        own = matches.labels == one.slot
        scores, right = matches.scores[own], matches.found[0, own] >= 0
        f1 = {t: 2 * right[scores >= t].sum() / ((scores >= t).sum() + one.num_truths) for t in scores.tolist()}
        assert one.best_f1 == pytest.approx(max(f1.values()))
        assert f1[one.best_threshold] == pytest.approx(one.best_f1)
        on_grid = [2 * right[scores >= t].sum() / ((scores >= t).sum() + one.num_truths) for t in one.thresholds]
        np.testing.assert_allclose(one.f1, on_grid)
