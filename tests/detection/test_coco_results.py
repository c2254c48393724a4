"""Results as COCO's server takes them: written and read to the same figures, and every mistake named."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.detection.coco_results import check_results, read_results, write_results
from pocketvision.detection.metric import CocoMetric

GOOD = {"image_id": 1, "category_id": 18, "bbox": [1, 2.5, 3, 0], "score": 0.5}


def complaints(*entries: Any) -> list[str]:
    return check_results(list(entries), image_ids=[1, 2], category_ids=[18, 44])[0]


def test_nothing_is_good() -> None:
    assert complaints() == []
    assert complaints(GOOD, {**GOOD, "more": "keys"}) == []
    assert complaints({**GOOD, "image_id": 1.0, "category_id": 18.0}) == []


def test_ids_that_pandas_writes_with_a_fraction(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps([{**GOOD, "image_id": 2.0, "category_id": 18.0}]))
    found, _ = read_results(tmp_path / "r.json", image_ids=[1, 2], slots={18: 5})
    assert [len(found[image]["scores"]) for image in (1, 2)] == [0, 1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_id": 3}, "have an image_id that the annotations do not list: entry 1 (3)"),
        ({"image_id": "1"}, "have an image_id that the annotations do not list: entry 1 ('1')"),
        ({"image_id": [1]}, "have an image_id"),
        ({"category_id": 1}, "have a category_id that the annotations do not list: entry 1 (1)"),
        ({"category_id": True}, "have a category_id"),
        ({"bbox": [1, 2, 3]}, "not four finite numbers x, y, width, height, the latter two not negative: entry 1"),
        ({"bbox": [1, 2, 3, math.nan]}, "not four finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "not negative: entry 1 ([1, 2, -3, 4])"),
        ({"bbox": None}, "not four finite numbers"),
        ({"score": math.inf}, "have a score that is not a finite number: entry 1 (inf)"),
        ({"score": 10**400}, "have a score"),
        (
            {"score": "0.5"},
            "have a score that is not a finite number: entry 1 ('0.5') (text: write numbers without quotes)",
        ),
        ({"image_id": 1.5}, "have an image_id that the annotations do not list: entry 1 (1.5)"),
    ],
)
def test_each_mistake_is_named(change: dict[str, Any], told: str) -> None:
    (found,) = complaints(GOOD, GOOD | change)
    assert found.startswith("1 of 2 entries ")
    assert told in found


def test_offenders_are_counted_and_the_first_named() -> None:
    found = complaints(*[GOOD | {"image_id": 10 + i} for i in range(5)], {"score": 1}, 7)
    assert found == [
        "2 of 7 entries are not objects with image_id, category_id, bbox, score: entry 5 ({'score': 1}), entry 6 (7)",
        "5 of 7 entries have an image_id that the annotations do not list: "
        "entry 0 (10), entry 1 (11), entry 2 (12), ...",
    ]
    found = check_results({"a": 1}, image_ids=[], category_ids=[])
    assert found == (["expected a list of detections, found a dict"], [])


def test_too_many_of_a_class_are_told() -> None:
    errors, (note,) = check_results([GOOD] * 101, image_ids=[1], category_ids=[18])
    assert errors == []
    assert "image 1 and category 18 with 101: only the best 100 count" in note


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="predictions not found"):
        read_results(tmp_path / "no.json", image_ids=[1], slots={18: 1})
    (tmp_path / "half.json").write_text("[{")
    with pytest.raises(ValueError, match=r"half\.json is not valid JSON"):
        read_results(tmp_path / "half.json", image_ids=[1], slots={18: 1})
    (tmp_path / "bad.json").write_text(json.dumps([GOOD | {"score": math.nan}, GOOD | {"image_id": 2}]))
    with pytest.raises(ValueError, match=r"cannot be scored: 1 of 2 .* image_id .*; 1 of 2 .* score"):
        read_results(tmp_path / "bad.json", image_ids=[1], slots={18: 1})


def test_written_and_read_gives_the_same_figures(coco_files: Any, tmp_path: Path) -> None:
    truth, results = coco_files.made_up()
    metric = coco_files.metric(truth, results)
    source_ids = {slot: int(name.split()[1]) for slot, name in metric.names.items()}
    count = write_results(tmp_path / "out" / "r.json", metric, source_ids=source_ids)
    assert count == len(results)
    again = CocoMetric(metric.names)
    slots = {category: slot for slot, category in source_ids.items()}
    found, notes = read_results(tmp_path / "out" / "r.json", image_ids=metric.images(), slots=slots)
    assert notes == []
    for image, (_, annotations) in metric.state().items():
        again.add(image, found[image], annotations)
    assert again.compute() == metric.compute()
    written = json.loads((tmp_path / "out" / "r.json").read_text())
    expected = coco_files.pycocotools(truth, written).stats[0]
    assert expected == metric.compute()["AP"] > 0.05


def test_only_what_the_server_takes_is_written(coco_files: Any, tmp_path: Path) -> None:
    truth, results = coco_files.made_up(images=1, categories=(1, 2), detections=150)
    metric = coco_files.metric(truth, results)
    assert write_results(tmp_path / "r.json", metric, source_ids={1: 1}) == min(
        100, sum(result["category_id"] == 1 for result in results)
    )
    written = json.loads((tmp_path / "r.json").read_text())
    assert {entry["category_id"] for entry in written} == {1}  # slot 2 has no category
    assert [entry["score"] for entry in written] == sorted((entry["score"] for entry in written), reverse=True)
    (image,) = metric.images()
    metric.state()[image][0]["boxes_xywh"][:] = np.nan
    with pytest.raises(ValueError, match="cannot be scored"):
        write_results(tmp_path / "r.json", metric, source_ids={1: 1})
