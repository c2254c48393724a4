"""`convert` from the command line, and runs on what it wrote."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pocketvision.tools import browse, convert, evaluate, train

SHORT = ["epochs=1", "device=cpu", "threads=1", "workers=0", "batch_size=2", "data.input_size=[64,64]", "eval_every=1"]


@pytest.fixture(autouse=True)
def plain_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line without words of pytest's."""
    monkeypatch.setattr(sys, "argv", ["pocketvision"])


def photographs(root: Path, count: int = 6) -> list[str]:
    """A json with one box on each of some pictures; the keys that name it."""
    images, annotations = [], []
    for i in range(count):
        picture = np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)
        (root / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"photos/{i}.jpg"), picture)
        images.append({"id": i + 5, "file_name": f"{i}.jpg", "height": 48, "width": 64})
        outline = {"segmentation": [[1, 1, 9, 9, 1, 9]] if i else []}
        annotations.append({"id": i, "image_id": i + 5, "category_id": 2, "bbox": [4 + i, 5, 30, 20.5], **outline})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 2, "name": "cell"}]}
    (root / "all.json").write_text(json.dumps(content))
    return ["data=coco_json", f"data.train_json={root}/all.json", f"data.images={root}/photos"]


def test_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = photographs(tmp_path)
    convert.main([*keys, "format=yolo", f"output={tmp_path}/out", "data.holdout=0.4"])
    told = capsys.readouterr().out
    assert "held out, selected by" in told
    assert "polygons (segmentation) are not converted" in told
    assert "1 category id is renumbered from 1; the names are kept" in told
    assert f"train on them with data=yolo data.root={tmp_path}/out/data.yaml" in told
    convert.main([*keys, "format=voc", f"output={tmp_path}/bare", "images=none", "splits=[train]"])
    assert f"annotations only: put the images into {tmp_path}/bare/JPEGImages" in capsys.readouterr().out
    convert.main([*keys, "format=coco", f"output={tmp_path}/coco", "images=none"])
    assert f"data.images={tmp_path}/photos data.val_images={tmp_path}/photos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["format=xml"], "format=xml: expected one of coco, voc, yolo"),
        ([], r"required: format=\.\.\."),
        (["format=voc", "images=move"], "images=move: expected one of link, copy, none"),
        (["format=voc", "splits=[]"], r"splits=\[\]: expected train, val or both"),
        (["format=voc", "splits=[train,train]"], r"expected train, val or both"),
        (["format=voc", "splits=[test]"], "split=test: expected train or val"),
        (
            ["format=voc", "data.holdout=null"],
            r"split='val': choose train or val \(val needs val_json or holdout\)",
        ),
        (["format=voc", "data.holdout=2"], "holdout=2: expected a number between 0 and 1"),
        (["format=voc", "data=shapes_detection"], "ShapesDetection has no files: choose data=coco_json"),
        (["format=voc", "data=shapes_segmentation"], "data is for segmentation, but convert is for boxes"),
        (["format=voc", "output={root}/photos"], "photos already exists: choose another output"),
        (["format=voc", "data=voc", "data.root={root}"], r"no XML files in .*"),
        (["format=voc", "data=yolo", "data.root={root}/none.yaml"], "not found: .*none.yaml, expected a data.yaml"),
    ],
)
def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: list[str], message: str) -> None:
    given = [*photographs(tmp_path), f"output={tmp_path}/out", *(key.format(root=tmp_path) for key in keys)]
    if any(key.startswith("data=") for key in keys):
        given = [f"output={tmp_path}/out", *(key.format(root=tmp_path) for key in keys)]
    with pytest.raises(SystemExit) as stopped:
        convert.main(list({key.partition("=")[0]: key for key in given}.values()))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_runs_on_all_formats_learn_the_same(in_tmp_path: Path) -> None:
    """One epoch each: the same loss to the last bit, as boxes, names and order are the same; and what evaluates it."""
    keys = photographs(in_tmp_path)
    for layout in ("yolo", "voc"):
        convert.main([*keys, f"format={layout}", f"output={layout}"])
    losses = {}
    for name, data in {
        "coco": keys,
        "yolo": ["data=yolo", "data.root=yolo"],
        "voc": ["data=voc", "data.root=voc"],
    }.items():
        train.main(["experiment=small_detection", f"name={name}", *data, *SHORT])
        evaluate.main([f"run=runs/{name}", "workers=0", "device=cpu", "threads=1", f"coco_results={name}.json"])
        browse.main([*data, "count=2", f"output={name}.png", "augment=none"])
        lines = [json.loads(line) for line in Path("runs", name, "metrics.jsonl").read_text().splitlines()]
        losses[name] = [value for line in lines for key, value in sorted(line.items()) if "loss" in key]
        assert all(type(found["image_id"]) is int for found in json.loads(Path(f"{name}.json").read_text()))
    assert losses["coco"]
    assert losses["coco"] == losses["yolo"] == losses["voc"]
