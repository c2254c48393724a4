"""Top-1 and top-5 by hand, across ranks, with few and with many classes."""

import pytest
import torch
from pocketvision.backbones.metric import TopAccuracy
from pocketvision.backbones.postprocess import Ranking


def names(count: int) -> dict[int, str]:
    return {slot: f"c{slot}" for slot in range(count)}


def add(metric: TopAccuracy, rows: list[tuple[str, int, list[int]]]) -> TopAccuracy:
    """Rows of image id, truth and the classes in the order of the prediction."""
    metric.update(
        [Ranking(torch.tensor(order), torch.ones(len(order)) / len(order)) for _, _, order in rows],
        [{"label": torch.tensor(label)} for _, label, _ in rows],
        [{"image_id": image} for image, _, _ in rows],
    )
    return metric


ROWS = [
    ("a", 0, [0, 1, 2, 3, 4, 5]),  # first
    ("b", 0, [1, 0, 2, 3, 4, 5]),  # second
    ("c", 4, [0, 1, 2, 3, 4, 5]),  # fifth
    ("d", 5, [0, 1, 2, 3, 4, 5]),  # sixth
]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], {}),
        (ROWS[:1], {"top1": 1, "top5": 1, "top1/c0": 1}),
        (ROWS, {"top1": 0.25, "top5": 0.75, "top1/c0": 0.5, "top1/c4": 0, "top1/c5": 0}),
        (ROWS[:2] + ROWS[:1], {"top1": 0.5, "top5": 1, "top1/c0": 0.5}),  # an image counts once
    ],
)
def test_by_hand(rows: list[tuple[str, int, list[int]]], expected: dict[str, float]) -> None:
    metric = add(TopAccuracy(names(6)), rows)
    absent = dict.fromkeys(("top1", "top5", *(f"top1/c{i}" for i in range(6))))
    assert metric.compute() == absent | expected
    metric.reset()
    assert metric.compute() == absent


def test_confusion_has_the_truth_in_rows_and_the_first_class_in_columns() -> None:
    assert not add(TopAccuracy(names(3)), []).confusion().any()
    metric = add(TopAccuracy(names(3)), [("a", 0, [0, 1, 2]), ("b", 0, [2, 0, 1]), ("c", 2, [1, 2, 0])])
    assert metric.confusion().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert metric.state()["b"] == (0, 1, 2, pytest.approx(1 / 3))


def test_with_fewer_than_five_classes_the_top_five_are_all() -> None:
    results = add(TopAccuracy(names(2)), [("a", 1, [0, 1]), ("b", 1, [0, 1])]).compute()
    assert results == {"top1": 0, "top5": 1, "top1/c0": None, "top1/c1": 0}


@pytest.mark.parametrize(("count", "named"), [(100, True), (101, False)])
def test_classes_are_told_where_they_are_few(count: int, named: bool) -> None:
    results = add(TopAccuracy(names(count)), [("a", 3, list(range(count)))]).compute()
    assert ("top1/c3" in results) is named


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"got slots \[1\]"):
        TopAccuracy({1: "a"})
    with pytest.raises(ValueError, match="rank 3 classes, but the metric has 2"):
        add(TopAccuracy(names(2)), [("a", 0, [0, 1, 2])])
    with pytest.raises(ValueError, match=r"labels \[7\] are not all among the 2 classes"):
        add(TopAccuracy(names(2)), [("a", 7, [0, 1])])
