"""The check reads VOC and YOLO, jsons with a share cut off, and masks in colour, and finds what only they can have."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.datasets.checking import masks
from pocketvision.datasets.checking.check import Checked
from pocketvision.datasets.checking.reading import read_split
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.coco_json import CocoJson
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.datasets.voc import VocDetection
from pocketvision.datasets.writing.box_writing import write_boxes
from pocketvision.datasets.yolo import YoloDetection

SOURCES = {"voc": VocDetection, "yolo": YoloDetection}
SIZE = 48, 64


@pytest.fixture
def write(make: Callable[[type], Any], world: Any, tmp_path: Path) -> Callable[[str], Path]:
    """The clean data set of boxes in another format."""

    def written(layout: str) -> Path:
        data = make(world.Boxes)
        data.check()  # writes the jsons
        sources = {split: CocoDetection(data.root / f"{split}.json", data.images) for split in ("train", "val")}
        write_boxes(sources, tmp_path / "out", layout=layout, images="copy")
        return tmp_path / "out"

    return written


@pytest.fixture
def check(world: Any) -> Callable[..., Checked]:
    def found(source: type, **arguments: Any) -> Checked:
        return world.checked(source, lambda split: {**arguments, "split": split}, input_size=SIZE)

    return found


@pytest.mark.parametrize("layout", list(SOURCES))
def test_clean_data_have_no_faults(layout: str, write: Callable[[str], Path], check: Any) -> None:
    checked = check(SOURCES[layout], root=write(layout))
    assert [finding.fault for finding in checked.findings] == []
    assert {split: len(contents.pictures) for split, contents in checked.contents.items()} == {"train": 6, "val": 3}


def _changed(pattern: str, *pairs: tuple[str, str]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = sorted(root.rglob(pattern))[0]
        text = path.read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)

    return change


def _without_xml(root: Path) -> None:
    next(root.rglob("t0.xml")).unlink()


def _renamed(name: str, other: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        path = next(root.rglob(name))
        path.rename(path.with_name(other))

    return spoil


def _one_stem(root: Path) -> None:
    image = next(root.rglob("t0.png"))
    shutil.copy(image, image.with_suffix(".jpg"))


@pytest.mark.parametrize(
    ("layout", "spoil", "kind", "along"),
    [
        ("voc", _without_xml, "missing_annotation", {"unlisted"}),
        ("voc", _changed("t0.xml", ("<xmin>4", "<xmin>0")), "zero_based", {"box_outside"}),
        ("voc", _changed("t0.xml", ("t0.png", "t1.png")), "other_filename", set()),
        ("voc", _changed("t0.xml", ("heron", "dodo")), "unknown_category", set()),
        ("voc", _changed("t0.xml", ("</annotation>", "")), "format", {"unlisted"}),
        ("yolo", _changed("t0.txt", ("0 ", "0 3")), "not_normalized", set()),
        ("yolo", _changed("t0.txt", ("0 ", "7 ")), "unknown_category", set()),
        ("yolo", _renamed("t0.txt", "T0.TXT"), "near_name", set()),
        ("yolo", _renamed("t0.txt", "t0.png.txt"), "near_name", set()),
        ("yolo", _renamed("t0.txt", "other.txt"), "spare_annotation", set()),
        ("voc", _renamed("t0.xml", "t0.png.xml"), "near_name", set()),
        ("yolo", _one_stem, "shared_annotation", {"mislabelled", "duplicate_image", "same_name", "near_duplicate"}),
    ],
)
def test_faults(
    layout: str, spoil: Callable[[Path], None], kind: str, along: set[str], write: Callable[[str], Path], check: Any
) -> None:
    root = write(layout)
    spoil(root)
    found = set(check(SOURCES[layout], root=root).by_kind())
    assert kind in found
    assert found <= {kind, *along}


def test_a_share_of_one_json(make: Callable[[type], Any], world: Any, check: Any) -> None:
    data = make(world.Boxes)
    data.check()
    checked = check(CocoJson, train_json=data.root / "train.json", images=data.images, holdout=0.4)
    names = {split: {picture.name for picture in contents.pictures} for split, contents in checked.contents.items()}
    assert names["train"] | names["val"] == {f"t{i}.png" for i in range(6)}
    assert not names["train"] & names["val"]


def test_masks_in_colour(make: Callable[[type], Any], world: Any, check: Any) -> None:
    data = make(world.Masks)
    colors = np.array([[1, 2, 3], [200, 0, 0], [0, 0, 0]], np.uint8)
    for path in data.root.rglob("labels/*.png"):
        values = world.mask(int(path.stem))
        path.write_bytes(world.encoded(colors[np.where(values == 255, 2, values)]))
    (data.root / "classes.csv").write_text("name,r,g,b\nsky,1,2,3\nroad,200,0,0\n")
    arguments = {"root": data.root, "classes": data.root / "classes.csv"}
    assert check(MaskFolder, **arguments, ignore_colors=[[0, 0, 0]]).findings == []
    assert set(check(MaskFolder, **arguments).by_kind()) == {"mask_type", "class_absent"}  # black is no class


@pytest.mark.parametrize("kind", ["Boxes", "Masks", "City", "Folders"])
@pytest.mark.parametrize("limit", [2, 99])
def test_a_limit_reads_each_picture_once(kind: str, limit: int, make: Callable[[type], Any], world: Any) -> None:
    data = make(getattr(world, kind))
    data.check()
    for split, number in (("train", 10 if kind == "Folders" else 6), ("val", None)):
        given = {**data.arguments(split), "limit": limit}
        pictures = read_split(data.source, given, labels=None, report=lambda fault: None).pictures
        assert len({picture.path for picture in pictures}) == len(pictures)
        assert number is None or len(pictures) == min(limit, number)


@pytest.mark.parametrize("examine", ["mask", "instances"])
def test_no_mask_is_decoded_whose_chunks_announce_more_than_there_is(
    examine: str, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV would take the 4 GB that such a file speaks of."""
    data = world.encoded(np.zeros((9, 9, 3), np.uint8))
    data = data[:33] + b"\xf0\0\0\0iTXt" + data[33:]
    monkeypatch.setattr(masks.cv2, "imdecode", None)
    told: list[tuple[str, ...]] = []
    values = np.zeros(256, np.uint8)
    examined = {
        "mask": lambda report: masks.examine_mask(data, "x.png", values, None, report),
        "instances": lambda report: masks.examine_instances(data, "x.png", np.zeros((9, 9), np.uint8), values, report),
    }[examine](lambda *fault: told.append(fault))
    assert examined is None
    assert [kind for kind, _ in told] == ["undecodable" if examine == "mask" else "instances"]
