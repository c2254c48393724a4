"""Round trips between the formats: the same images, classes and boxes, and every loss is counted."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.boxes import CLIP_TOLERANCE, BoxSource
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.voc import VocDetection
from pocketvision.datasets.writing.box_writing import write_boxes
from pocketvision.datasets.yolo import YoloDetection

NAMES = ["a b.jpg", "über (1).png", "x.y.z.JPG", "sub/deep/a b.jpg", "images/q.jpg", "日本.png"]
CATEGORIES = [{"id": 3, "name": "traffic light"}, {"id": 7, "name": "Hündin", "supercategory": "animal"}]
TOLERANCE = {"coco": 1e-6, "voc": 1.1e-3, "yolo": 1e-3}  # pixels
READERS: dict[str, Any] = {
    "coco": lambda root, split: CocoDetection(root=root, split=split),
    "voc": lambda root, split: VocDetection(root, split=split),
    "yolo": lambda root, split: YoloDetection(root, split=split),
}


def made_up(root: Path, annotations: list[dict[str, Any]], names: list[str] = NAMES, split: str = "train") -> BoxSource:
    images = [{"id": 10 + i, "file_name": name, "height": 301, "width": 407} for i, name in enumerate(names)]
    for i, name in enumerate(names):
        (root / split / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode(Path(name).suffix.lower(), np.full((301, 407, 3), i, np.uint8))[1].tofile(root / split / name)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / f"{split}.json").write_text(json.dumps(content))
    return CocoDetection(root / f"{split}.json", root / split)


def box(image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def random_boxes(count: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    left, top = rng.uniform(0, 300, count), rng.uniform(0, 200, count)
    boxes = np.stack([left, top, rng.uniform(0.5, 407 - left), rng.uniform(0.5, 301 - top)], 1)
    # The last image stays without boxes.
    return [box(10 + int(rng.integers(5)), (3, 7)[i % 2], b) for i, b in enumerate(boxes.round(2).tolist())]


def by_name(source: BoxSource, *, crowds: bool = True) -> dict[str, tuple[np.ndarray, list[str]]]:
    """File name -> boxes and names of classes, in the file's order."""
    found = {}
    for i, name in enumerate(source.file_names.tolist()):
        truth = source.ground_truth(i)
        kept = ~truth["crowd"] | crowds
        found[name] = truth["boxes_xywh"][kept], [source.labels.names[slot] for slot in truth["labels"][kept].tolist()]
    return found


def assert_same(first: BoxSource, second: BoxSource, tolerance: float, *, crowds: bool = True) -> None:
    one, other = by_name(first, crowds=crowds), by_name(second)
    assert set(one) == set(other)
    for name, (boxes, classes) in one.items():
        assert other[name][1] == classes
        np.testing.assert_allclose(other[name][0], boxes, atol=tolerance, rtol=0)


def pixels(source: BoxSource) -> dict[str, float]:
    return {str(name): float(source.read(i).image.mean()) for i, name in enumerate(source.file_names)}


def test_no_boxes_at_all(tmp_path: Path) -> None:
    source = made_up(tmp_path / "in", [], ["a.jpg"])
    for layout in ("coco", "voc"):
        write_boxes({"train": source}, tmp_path / layout, layout=layout)
        assert_same(source, READERS[layout](tmp_path / layout, "train"), 0)
    write_boxes({"train": source}, tmp_path / "yolo", layout="yolo")
    assert (tmp_path / "yolo/labels/train/a.txt").read_text() == ""
    assert_same(source, YoloDetection(tmp_path / "yolo"), 0)


@pytest.mark.parametrize(
    "chain", [["coco"], ["voc", "coco"], ["yolo", "coco"], ["yolo", "voc", "yolo"], ["voc", "yolo", "voc"]]
)
def test_round_trips(tmp_path: Path, chain: list[str]) -> None:
    source = made_up(tmp_path / "in", random_boxes())
    last = source
    for step, layout in enumerate(chain):
        write_boxes({"train": last}, tmp_path / str(step), layout=layout)
        last = READERS[layout](tmp_path / str(step), "train")
    assert_same(source, last, max(TOLERANCE[layout] for layout in chain))
    assert list(last.labels.names.values()) == ["traffic light", "Hündin"]
    assert len(set(pixels(source).values())) == len(NAMES)
    assert pixels(last) == pixels(source)


def test_a_wrong_box_is_noticed(tmp_path: Path) -> None:
    source = made_up(tmp_path / "in", random_boxes())
    write_boxes({"train": source}, tmp_path / "out", layout="voc")
    with pytest.raises(AssertionError):
        assert_same(source, VocDetection(tmp_path / "out", one_based=False), TOLERANCE["voc"])


def test_coco_keeps_everything(tmp_path: Path) -> None:
    crowd = box(11, 7, [1, 2, 30, 40], iscrowd=1, area=77.5)
    source = made_up(tmp_path / "in", [crowd, box(10, 3, [-2, 0, 500.25, 5])])
    assert write_boxes({"train": source}, tmp_path / "out", layout="coco") == []
    copy = CocoDetection(root=tmp_path / "out", split="train")
    assert copy.fingerprint() == source.fingerprint()
    assert copy.labels == source.labels


def test_losses_are_counted(tmp_path: Path) -> None:
    annotations = [
        box(10, 3, [1, 2, 30, 40], iscrowd=1),
        box(10, 3, [10, 10, 20, 20], area=123.0),
        box(10, 7, [400, 200, 50, 20]),
        box(11, 7, [500, 10, 5, 5]),
        box(11, 7, [5, 10, 0, 5]),
    ]
    source = made_up(tmp_path / "in", annotations)
    assert write_boxes({"train": source}, tmp_path / "yolo", layout="yolo") == [
        "1 area other than the box's (of a polygon) is lost: object sizes then follow the box",
        "1 crowd region (or difficult object) cannot be represented in YOLO; dropped",
        "2 boxes lie outside their image; dropped",
        "1 box extends outside its image; clipped to it, as usual in YOLO",
        "2 category ids are renumbered from 1; the names are kept",
        "1 supercategory is lost",
        "6 image ids are renumbered from 1 in each split",
    ]
    kept = YoloDetection(tmp_path / "yolo")
    assert by_name(kept)["a b.jpg"][0].round(6).tolist() == [[10, 10, 20, 20], [400, 200, 7, 20]]
    lost = write_boxes({"train": source}, tmp_path / "voc", layout="voc")
    assert [line.split()[0] for line in lost] == ["1", "2", "1", "6"]
    voc = VocDetection(tmp_path / "voc")
    assert_same(source, voc, TOLERANCE["voc"])
    assert [voc.ground_truth(i)["crowd"].sum() for i in range(2)] == [1, 0]


def test_names_that_would_share_an_annotation(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "A.jpg", "b.jpg"]
    train = made_up(tmp_path / "in", [box(10 + i, 3, [i + 1, 1, 5, 5]) for i in range(4)], names)
    val = made_up(tmp_path / "in", [box(10, 7, [90, 1, 5, 5])], ["a.jpg"], split="val")
    for layout, moved, in_val in (("coco", 0, "a.jpg"), ("voc", 3, "a_3.jpg"), ("yolo", 2, "a.jpg")):
        lost = write_boxes({"train": train, "val": val}, tmp_path / layout, layout=layout)
        assert any("images renamed" in line for line in lost) == bool(moved)
        for split, source in (("train", train), ("val", val)):
            copy = READERS[layout](tmp_path / layout, split)
            boxes = [copy.ground_truth(i)["boxes_xywh"].round(3).tolist() for i in range(len(copy))]
            assert sorted(boxes) == sorted(source.ground_truth(i)["boxes_xywh"].tolist() for i in range(len(source)))
            means = {copy.read(i).image.mean(): b for i, b in enumerate(boxes)}
            for i in range(len(source)):
                assert means[source.read(i).image.mean()] == source.ground_truth(i)["boxes_xywh"].tolist()
            if split == "val":
                assert copy.file_names.tolist() == [in_val]
        if layout == "voc":
            assert {"a", "a_png"} < {p.stem for p in (tmp_path / "voc/Annotations").iterdir()}
    with pytest.raises(ValueError, match=r"2 images need another name.*images=link"):
        write_boxes({"train": train}, tmp_path / "none", layout="yolo", images="none")
    assert not (tmp_path / "none").exists()


def test_an_image_of_two_splits_stays_one(tmp_path: Path) -> None:
    train = made_up(tmp_path / "in", [box(10, 3, [1, 1, 5, 5])], ["a.jpg", "b.jpg"])
    write_boxes({"train": train, "val": train}, tmp_path / "out", layout="voc")
    assert len(list((tmp_path / "out/JPEGImages").iterdir())) == 2
    assert len(VocDetection(tmp_path / "out", split="val")) == 2


def test_images_are_linked_copied_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made_up(tmp_path / "in", random_boxes())
    original = tmp_path / "in/train/a b.jpg"
    write_boxes({"train": source}, tmp_path / "link", layout="coco")
    assert os.path.samefile(tmp_path / "link/train/a b.jpg", original)
    write_boxes({"train": source}, tmp_path / "copy", layout="coco", images="copy")
    assert not os.path.samefile(tmp_path / "copy/train/a b.jpg", original)
    assert (tmp_path / "copy/train/a b.jpg").read_bytes() == original.read_bytes()
    write_boxes({"train": source}, tmp_path / "none", layout="coco", images="none")
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["annotations"]

    def refuse(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    assert write_boxes({"train": source}, tmp_path / "far", layout="coco") == [
        "6 images copied, because hard links are impossible there"
    ]


def test_nothing_is_overwritten_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    source = made_up(tmp_path / "in", random_boxes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    (tmp_path / "file").touch()
    for name in ("out", "file"):
        with pytest.raises(FileExistsError, match=f"{name} already exists: choose another output"):
            write_boxes({"train": source}, tmp_path / name, layout="coco")
    cv2.imwrite(str(tmp_path / "in/train/x.y.z.JPG"), np.zeros((407, 301, 3), np.uint8))
    with pytest.raises(ValueError, match=r"x\.y\.z\.JPG decodes to 301x407.*says 407x301.*EXIF"):
        write_boxes({"train": source}, tmp_path / "new", layout="yolo")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "file"}
    (tmp_path / "out/mine").unlink()
    assert write_boxes({"train": source}, tmp_path / "out", layout="coco") == []
    assert os.stat(tmp_path / "out").st_mode & 0o777 == os.stat(tmp_path / "in").st_mode & 0o777


def test_names_that_do_not_go_into_a_list(tmp_path: Path) -> None:
    source = made_up(tmp_path / "in", [], [" b.jpg"])
    with pytest.raises(ValueError, match=r"the name ' b\.jpg' has surrounding spaces or invalid characters"):
        write_boxes({"train": source}, tmp_path / "out", layout="voc")
    (tmp_path / "in/train.json").write_text(
        (tmp_path / "in/train.json").read_text().replace("traffic light", "H\\u00fcndin")
    )
    with pytest.raises(ValueError, match=r"the class 'Hündin' is listed twice \(ids 3 and 7\)"):
        CocoDetection(tmp_path / "in/train.json", tmp_path / "in/train")


@pytest.mark.parametrize(
    "read",
    [
        lambda root: CocoDetection(root / "bccd/instances_val.json", root / "bccd/images"),
        lambda root: CocoDetection(root=root / "coco_mini", split="val2017"),
    ],
    ids=["bccd", "coco_mini"],
)
def test_real_data(data_root: Path, tmp_path: Path, read: Callable[[Path], BoxSource]) -> None:
    val = read(data_root)
    for layout in ("coco", "voc", "yolo"):
        write_boxes({"val": val}, tmp_path / layout, layout=layout)
        copy = READERS[layout](tmp_path / layout, "val")
        tolerance = CLIP_TOLERANCE if layout == "yolo" else TOLERANCE[layout]  # COCO's boxes are rounded outwards
        assert_same(val, copy, tolerance, crowds=layout != "yolo")
