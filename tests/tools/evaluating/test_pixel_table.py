"""The table by class: figures against the definitions, and its shape with few and many classes."""

import numpy as np
import pytest
from pocketvision.tools.evaluating.pixel_table import pixel_table

CONFUSION = np.array([[6, 2, 0, 0], [1, 3, 0, 4], [0, 0, 0, 0]])  # road, car, sky by truth; the last column is void


def test_nothing_seen():
    assert pixel_table(["a", "b"], np.zeros((2, 3), np.int64)).splitlines()[1:] == [
        "  2 of 2 classes have neither ground truth nor predictions: a, b"
    ]


def test_figures():
    lines = pixel_table(["road", "car", "sky"], CONFUSION).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["class", "IoU", "truth", "precision", "recall"],
        ["road", "66.67", "50.00", "85.71", "75.00"],
        ["car", "30.00", "50.00", "60.00", "37.50"],
    ]
    assert lines[3:] == ["  1 of 3 classes has neither ground truth nor predictions: sky"]


def test_instances_and_what_cannot_be_divided():
    confusion = np.array([[4, 0, 4, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    rows = [
        line.split()
        for line in pixel_table(["road", "car", "sky"], confusion, {"car": 0.125, "sky": None}).splitlines()
    ]
    assert rows == [
        ["class", "IoU", "truth", "precision", "recall", "iIoU"],
        ["road", "40.00", "80.00", "66.67", "50.00", "-"],
        ["car", "0.00", "20.00", "-", "0.00", "12.50"],
        ["sky", "0.00", "0.00", "0.00", "-", "-"],
    ]


@pytest.mark.parametrize(("num_classes", "lines"), [(30, 31), (31, 17), (150, 76)])
def test_many_classes_stand_side_by_side(num_classes, lines):
    names = [f"a class of the number {i:03d}"[-25 + i % 9 :] for i in range(num_classes)]
    text = pixel_table(names, np.eye(num_classes, num_classes + 1, dtype=np.int64) * 7).splitlines()
    assert len(text) == lines
    assert max(map(len, text)) <= 140
    assert sum(line.count("100.00") for line in text) == 3 * num_classes
