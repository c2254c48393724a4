"""What training refuses to learn from, and what it warns of."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations import boxes as boxes_module
from pocketvision.datasets.annotations.boxes import BoxSource, FoundBoxes, TableBuilder
from pocketvision.datasets.checking.learnable import absent_in_validation, check_learnable, shared_images
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.labels import detection_labels
from pocketvision.datasets.loading.augmented import FirstSamples
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.datasets.shapes import ShapesDetection

GOOD, CROWD, OUTSIDE = (5, 5, 9, 9), (1, 1, 8, 8), (50, 50, 4, 4)


def boxes(folder: Path, *rows: tuple[int, Sequence[float], bool], classes: int = 2) -> BoxSource:
    """Two images of 20x20 with the boxes (slot, xywh, crowd) in the first one."""
    builder = TableBuilder("x.json", detection_labels([(i, f"class {i}", None) for i in range(1, classes + 1)]))
    for name in ("a.png", "b.png"):
        (folder / name).touch()
        builder.add_image(name, (20, 20))
    for slot, box, crowd in rows:
        builder.add_box(slot, box, row=0, crowd=crowd)
    return BoxSource(FoundBoxes(builder.table(), folder, []))


def masks(folder: Path, *values: Any, classes: Any = ("background", "thing"), **options: Any) -> MaskFolder:
    """Masks of 10x10 whose rows hold these values, one list for each mask."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i, rows in enumerate(values):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.zeros((10, 10, 3), np.uint8))
        mask = np.repeat(np.array(rows, np.uint8), 10 // len(rows))[:, None].repeat(10, 1)
        cv2.imwrite(str(folder / "labels" / f"{i}.png"), mask)
    return MaskFolder(folder, classes=classes, **options)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no box in 2 images; there are no annotations"),
        ([(1, CROWD, True), (2, CROWD, True)], "of 2 annotations, 2 crowd or difficult"),
        ([(1, OUTSIDE, False)], "of 1 annotation, 1 without an area inside their image"),
        ([(1, CROWD, True), (1, OUTSIDE, False)], "1 crowd or difficult.* and 1 without an area"),
        ([(1, (5, 5, 0, 3), False)], "without an area"),
    ],
)
def test_boxes_that_nobody_can_learn(rows: Any, told: str, tmp_path: Path) -> None:
    source = boxes(tmp_path, *rows)
    for each in (source, FirstSamples(source, 1)):
        with pytest.raises(ValueError, match=rf"data\.train has nothing to learn from: .*{told}"):
            check_learnable(each, task="detection")
    assert "has nothing to compare with" in absent_in_validation(source)[0]


def test_images_that_serve_both_splits(tmp_path: Path) -> None:
    both = boxes(tmp_path, (1, GOOD, False))
    told = "data.val: all 2 images also in data.train: the metrics will be too optimistic"
    assert shared_images(both, FirstSamples(both, 2)) == [told]
    one, two = masks(tmp_path / "m", [0, 1], [1]), masks(tmp_path / "n", [0, 1])
    assert shared_images(one, one) == [told]
    assert not shared_images(one, two)
    assert not shared_images(both, two)


def test_masks_that_nobody_can_read(tmp_path: Path) -> None:
    source = masks(tmp_path, [0, 1])
    cv2.imwrite(str(tmp_path / "labels/0.png"), np.full((10, 10), 65535, np.uint16))
    with pytest.raises(ValueError, match=r"0\.png contains uint16 values up to 65535"):
        check_learnable(source, task="segmentation")


def test_one_box_of_one_class_is_enough(tmp_path: Path) -> None:
    assert check_learnable(boxes(tmp_path, (1, GOOD, False), classes=1), task="detection") == []
    assert absent_in_validation(boxes(tmp_path, (2, GOOD, False), (1, CROWD, True))) == [
        "data.val: no example of class 1 in 2 images"
    ]


def test_boxes_are_clipped_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    clip = boxes_module.clip
    monkeypatch.setattr(boxes_module, "clip", lambda boxes, limits: [calls.append(len(boxes)), clip(boxes, limits)][1])
    source = boxes(tmp_path, (1, GOOD, False), (2, OUTSIDE, False))
    assert check_learnable(source, task="detection") == []
    assert absent_in_validation(source) == ["data.val: no example of class 2 in 2 images"]
    assert calls == [2]


def test_a_class_without_a_validation_image_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "x" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "x" / name / "1.png"), np.zeros((8, 8, 3), np.uint8))
    train = ImageFolder(tmp_path, split="x")
    shutil.rmtree(tmp_path / "x" / "dog")
    val = ImageFolder(tmp_path, split="x", labels=train.labels)
    assert check_learnable(train, task="classification") == absent_in_validation(train) == []
    assert absent_in_validation(val) == ["data.val: no example of dog in 1 image"]


def test_sources_of_another_kind_are_not_judged() -> None:
    source = ShapesDetection(length=2, size=(32, 32))
    assert check_learnable(source, task="detection") == absent_in_validation(source) == []


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([[255]], {}, r"no pixel with a class in 1 mask; they hold the values 255"),
        (
            [[255], [1, 255]],
            {"ignore_ids": [1], "classes": ["a", "b", "c"]},
            "no pixel with a class in 2 masks; they hold the values 1, 255",
        ),
        ([[0, 255], [0]], {}, r"all labeled pixels are 'background', and 25% of the pixels hold 255.*columns name,id"),
        ([[1, 255]], {}, "all labeled pixels are 'thing', and 50%"),
        ([[0]], {"classes": ["thing"]}, r"has one class \(thing\).*data\.classes=\[background,thing\]"),
    ],
)
def test_masks_that_nobody_can_learn(values: Any, options: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        check_learnable(masks(tmp_path / "x", *values, **options), task="segmentation")


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([[0, 1]], {}, []),
        ([[0, 1, 255, 255, 255]], {}, []),
        ([[0], [0]], {}, ["data.train: in 2 masks, all labeled pixels are 'background'"]),
        ([[0, 255]], {"ignore_ids": [255]}, ["data.train: in 1 mask, all labeled pixels are 'background'"]),
        (
            [[0, 2, 255, 255, 255]],
            {"classes": ["a", "b", "c"]},
            ["data.train: no pixel of b in 1 mask, and 60% of the pixels hold 255, which is ignored"],
        ),
        ([[0, 2, 2, 2, 255]], {"classes": ["a", "b", "c"], "ignore_ids": [255]}, []),
    ],
)
def test_masks_that_only_look_strange(values: Any, options: Any, told: list[str], tmp_path: Path) -> None:
    assert check_learnable(masks(tmp_path / "x", *values, **options), task="segmentation") == told


def test_a_class_may_be_stored_as_255(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("name,id\nbackground,0\nthing,255\n")
    source = masks(tmp_path / "x", [0, 255], classes=tmp_path / "classes.csv")
    assert np.unique(source.read_mask(0)).tolist() == [0, 1]
    assert check_learnable(source, task="segmentation") == []


def test_of_many_masks_200_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = masks(tmp_path / "x", *[[0, 255]] * 3)
    monkeypatch.setattr("pocketvision.datasets.checking.learnable._MOST", 2)
    with pytest.raises(ValueError, match="in 2 of 3 masks"):
        check_learnable(source, task="segmentation")


def test_a_mask_that_cannot_be_read_is_left_to_training(tmp_path: Path) -> None:
    source = masks(tmp_path / "x", [0, 1], [0, 1])
    Path(source.mask_paths[0]).write_bytes(b"x")
    assert check_learnable(source, task="segmentation") == []
