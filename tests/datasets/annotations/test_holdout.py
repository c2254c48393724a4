"""A validation split by names: the same everywhere, and more photographs move no others."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.holdout import held_out, split_rows
from pocketvision.datasets.coco_json import CocoJson

NAMES = [f"IMG_{i:04}.jpg" for i in range(1000)]


def test_the_smallest_set_has_one_of_each() -> None:
    for fraction in (0.001, 0.5, 0.999):
        assert sorted(held_out(["a", "b"], fraction).tolist()) == [False, True]
    for names in ([], ["a"]):
        with pytest.raises(ValueError, match=rf"{len(names)} images? cannot be split"):
            held_out(names, 0.2)


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 20])
def test_a_share_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"holdout={fraction}: expected the fraction"):
        held_out(NAMES, fraction)


def test_the_share_is_about_what_was_asked_for() -> None:
    assert held_out(NAMES, 0.2).sum() == 207  # a change of the rule would move everybody's images


def test_more_photographs_move_no_others() -> None:
    before = dict(zip(NAMES, held_out(NAMES, 0.2), strict=True))
    more = [f"new {i}.jpg" for i in range(50)] + NAMES[::-1]
    after = dict(zip(more, held_out(more, 0.2), strict=True))
    assert {name: after[name] for name in NAMES} == before


def test_the_two_splits_are_the_whole() -> None:
    (train, note), (val, _) = (split_rows(NAMES, split, 0.2) for split in ("train", "val"))
    assert sorted([*train, *val]) == list(range(1000))
    assert note == (
        "there is no validation split: 207 of 1000 images are held out, selected by their names (holdout=0.2)"
    )
    with pytest.raises(ValueError, match="split='test'"):
        split_rows(NAMES, "test", 0.2)


def test_one_json_makes_two_splits(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.png", "height": 6, "width": 8} for i in range(5)]
    for image in images:
        cv2.imwrite(str(tmp_path / image["file_name"]), np.zeros((6, 8, 3), np.uint8))
    boxes = [{"image_id": i, "category_id": 1, "bbox": [1, 1, i + 1, 2]} for i in range(5)]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    for name in ("all", "val"):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    train, val = (CocoJson(tmp_path / "all.json", tmp_path, split=split, holdout=0.4) for split in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == [0, 1, 2, 3, 4]
    assert min(len(train), len(val)) > 0
    assert val.ground_truth(0)["boxes_xywh"].tolist() == [[1, 1, val.image_ids[0] + 1, 2]]
    assert "held out" in train.notes[-1]
    own = CocoJson(tmp_path / "all.json", tmp_path, split="val", val_json=tmp_path / "val.json", holdout=0.4)
    assert (len(own), len(own.notes)) == (5, 1)
    whole = CocoJson(tmp_path / "all.json", tmp_path, val_json=tmp_path / "val.json", holdout=0.4)
    assert len(whole) == 5
    for arguments in ({"split": "val"}, {"split": "test"}):
        with pytest.raises(ValueError, match=f"split='{arguments['split']}': choose train or val"):
            CocoJson(tmp_path / "all.json", tmp_path, **arguments)
