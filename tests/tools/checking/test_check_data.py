"""The command: what it writes and prints, its exit status, and a user's mistakes."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.faults import KINDS
from pocketvision.datasets.checking.remedies import REMEDIES
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.datasets.writing.shapes_writer import write_coco
from pocketvision.tools import check_data

DOCS = Path(__file__).resolve().parents[3] / "docs" / "check-data.md"


@pytest.fixture(autouse=True)
def own_arguments(logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands set up the log of their process and its arguments."""
    monkeypatch.setattr(sys, "argv", ["pocketvision"])


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Scenes of 96x96 pixels, 24 to train on and 8 to validate."""
    numbers = {"train": (24, 1), "val": (8, 2)}
    write_coco(
        tmp_path / "coco",
        {split: ShapesDetection(length=n, size=(96, 96), seed=seed) for split, (n, seed) in numbers.items()},
    )
    return tmp_path / "coco"


def run(coco: Path, *keys: str) -> tuple[int, dict[str, Any]]:
    """Exit status and check.json."""
    output = coco.parent / "out"
    status: Any = 0
    try:
        check_data.main(["data=coco_json", f"data.train_json={coco}/annotations/instances_train2017.json",
                         f"data.val_json={coco}/annotations/instances_val2017.json", f"data.images={coco}/train2017",
                         f"data.val_images={coco}/val2017", "data.input_size=[96,96]", "workers=0",
                         f"output={output}", *keys])  # fmt: skip
    except SystemExit as error:
        status = error.code
    path = output / "check.json"
    return status, json.loads(path.read_text()) if path.exists() else {}


def change(coco: Path, split: str, edit: Any) -> None:
    path = coco / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_clean_data_set_ends_with_0(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(coco)
    assert (status, found["exit_status"], found["errors"], found["warnings"]) == (0, 0, 0, 0)
    assert (found["format"], found["findings"], found["kinds"]) == (1, [], {})
    split = found["splits"]["train"]
    content = json.loads((coco / "annotations/instances_train2017.json").read_text())
    assert (split["images"], split["boxes"]) == (24, len(content["annotations"]))
    assert sum(row["boxes"] for row in split["classes"]) == split["boxes"]
    assert sum(row["unreached"] for row in split["classes"]) == split["unreached"] < split["boxes"]
    printed = capsys.readouterr().out
    assert f"train: 24 images, {split['boxes']} boxes, 3 of 3 classes" in printed
    assert f"train: {split['unreached']} of {split['boxes']} boxes" in printed
    assert "0 errors, 0 warnings, 0 notes" in printed
    pictures = {path.name for path in (coco.parent / "out").iterdir()}
    charts = ("classes.png", "sizes.png", "boxes_an_image.png", "anchors.png")
    assert pictures == {"check.json", "check.html", *charts}


def test_warnings_alone_end_with_3_unless_they_are_ignored(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = [3.5, 4.25, 30.0, 30.0]
    change(coco, "train", lambda c: c["annotations"].extend(
        {"id": 900 + i, "image_id": 1, "category_id": 1, "bbox": box} for i in range(2)))  # fmt: skip
    status, found = run(coco)
    assert (status, found["exit_status"], found["warnings"]) == (3, 3, 1)
    (finding,) = found["findings"]
    assert {**finding, "path": "", "message": ""} == {
        "kind": "duplicate_box", "severity": "warning", "split": "train", "path": "", "image": "000000000001.jpg",
        "other": "", "box": [3.5, 4.25, 33.5, 34.25], "message": "",
    }  # fmt: skip
    assert found["kinds"] == {"duplicate_box": {"severity": "warning", "count": 1, "remedy": REMEDIES["duplicate_box"]}}
    assert "warning: duplicate_box, 1 found. Remedy: delete all but one" in capsys.readouterr().out
    picture = cv2.imread(str(coco.parent / "out" / "fault_duplicate_box.jpg"))
    red = (np.abs(picture.astype(int) - (40, 39, 214)).max(-1) < 60).sum()
    assert red > 1000
    assert "duplicate_box" in (coco.parent / "out" / "check.html").read_text()
    assert run(coco, "ignore=[duplicate_box]")[0] == 0


def test_errors_end_with_1(coco: Path) -> None:
    (coco / "val2017/000000000025.jpg").write_bytes((coco / "train2017/000000000003.jpg").read_bytes())
    (coco / "train2017/000000000002.jpg").write_bytes(b"")
    status, found = run(coco)
    assert (status, found["errors"]) == (1, 2)
    assert [row["kind"] for row in found["findings"]] == ["empty_file", "overlap"]
    assert found["findings"][1]["other"].endswith("train2017/000000000003.jpg")
    assert (coco.parent / "out/fault_overlap.jpg").is_file()
    assert run(coco, "split=val")[0] == 0  # by itself nothing is wrong with it


def test_a_class_that_no_anchor_reaches_is_told(coco: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 9, "name": "dot"})
        content["annotations"] += [
            {"id": 800 + i, "image_id": 1 + i, "category_id": 9, "bbox": [2 + i, 3, 3, 3]} for i in range(10)
        ]

    change(coco, "train", add)
    status, found = run(coco)
    assert (status, {row["kind"] for row in found["findings"]}) == (3, {"no_anchor", "class_unevaluated"})
    assert "class dot: 10 of 10 boxes (100 %) match no anchor at IoU 0.5 and 96x96" in found["findings"][0]["message"]
    assert next(row for row in found["splits"]["train"]["classes"] if row["name"] == "dot")["unreached"] == 10


def test_other_classes_than_declared(coco: Path) -> None:
    status, found = run(coco, "data.num_classes=4")
    assert status == 1
    assert found["findings"][0]["message"] == "data.num_classes=4, but data.train has 3 classes"


def test_a_split_that_is_no_json_leaves_the_other_one(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (coco / "annotations/instances_train2017.json").write_text("{")
    status, found = run(coco)
    assert (status, set(found["splits"]), found["findings"][0]["kind"]) == (1, {"val"}, "format")
    (coco / "annotations/instances_val2017.json").write_text("{")
    status, found = run(coco)
    assert (status, found["splits"], found["errors"]) == (1, {}, 2)


def test_names_are_no_markup_and_no_control_characters(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "<img src=x>\x1b[31m.jpg"
    change(coco, "train", lambda c: c["images"][0].update(file_name=name))
    assert run(coco)[0] == 1
    page = (coco.parent / "out" / "check.html").read_text()
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page
    assert "\x1b" not in page + capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["ignore=[box_tny]"], r"ignore=\['box_tny'\]: not a kind of fault; choose from format, "),
        (["split=test"], "split=test: choose train or val"),
        (["data=shapes_detection"], "data.train is ShapesDetection, which this command cannot check: .*CocoDetection"),
        (["data=coco", "data.root=/nowhere"], "annotation file not found: /nowhere/annotations"),
        (["workers=-1"], "workers=-1: expected 0 or more"),
        (["data.train.color=red"], "data.train.color: CocoJson has no such argument"),
        (["data.train.report=red"], "data.train.report: CocoJson has no such argument"),
    ],
)
def test_mistakes_end_with_2(coco: Path, keys: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if keys[0].startswith("data="):
        with pytest.raises(SystemExit) as ended:
            check_data.main([*keys, f"output={coco.parent}/out"])
        status: Any = ended.value.code
    else:
        status, _ = run(coco, *[key.replace("data.train.", "+data.train.") for key in keys])
    assert status == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error), error


def test_the_page_of_documentation_lists_every_kind() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE)
    assert dict(rows) == {kind: severity.value for kind, severity in KINDS.items()}
