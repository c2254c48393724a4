"""The rules by themselves: ends of files, sizes of boxes, thumbnails, names of classes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.boxes import BoxTable
from pocketvision.datasets.checking.boxes import check_boxes, input_scale
from pocketvision.datasets.checking.classes import check_classes, count_classes
from pocketvision.datasets.checking.contents import Contents
from pocketvision.datasets.checking.copies import near_pairs
from pocketvision.datasets.checking.decoding import overheard
from pocketvision.datasets.checking.examine import Examined
from pocketvision.datasets.checking.file_kinds import broken_chunk, content_kind, incomplete
from pocketvision.datasets.labels import Label, LabelMap


def jpeg(*options: int) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image, list(options))[1].tobytes()


def with_thumbnail(data: bytes) -> bytes:
    """With a whole JPEG, its end included, in a segment."""
    inner = jpeg(cv2.IMWRITE_JPEG_QUALITY, 5)
    return data[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + data[2:]


@pytest.mark.parametrize(
    "data",
    [jpeg(), jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 2), with_thumbnail(jpeg())],
    ids=["baseline", "progressive", "restarts", "thumbnail"],
)
def test_a_jpeg_has_an_end_or_not(data: bytes) -> None:
    assert incomplete(data) == ""
    assert incomplete(data + b"\0" * 64) == ""  # a camera's padding
    for cut in (-1, -2, -100, len(data) // 2, 700, 3, 2):
        assert "end-of-image marker is missing" in incomplete(data[:cut])


def test_a_png_has_an_end_and_checksums() -> None:
    data = cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes()
    assert (incomplete(data), broken_chunk(data)) == ("", "")
    assert "IEND" in incomplete(data[:-12])
    position = data.index(b"IDAT") + 5
    assert broken_chunk(data[:position] + b"\x99" + data[position + 1 :]) == "IDAT"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", ""),
        (b"\0" * 20, ""),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypisom\0\0\0\0isomiso2avc1", "video"),
        (b"P6 3 3 255 ", "PNM"),
        (b"\n <!doctype HTML>", "web page (a download that failed?)"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer: run `git lfs pull`"),
    ],
)
def test_content_is_told_by_its_first_bytes(head: bytes, kind: str) -> None:
    assert content_kind(head) == kind


def test_what_codecs_complain_of_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    cut = np.frombuffer(jpeg()[:-300] + b"\xff\xd9", np.uint8)
    image, told = overheard(lambda: cv2.imdecode(cut, cv2.IMREAD_COLOR))
    assert isinstance(image, np.ndarray)
    assert "premature end" in told
    error, told = overheard(lambda: [][0])
    assert isinstance(error, IndexError)
    assert told == capfd.readouterr().err == ""


def table(boxes: list[list[float]], *, size: tuple[int, int] = (100, 200), crowd: bool = False) -> BoxTable:
    """Boxes of one image, of one class."""
    n = len(boxes)
    labels = LabelMap((Label(1, "cat", 1),), 1)
    images = (np.array([5]), np.array(["a.jpg"]), np.array(size[:1]), np.array(size[1:]))
    boxes_xywh = np.array(boxes, float).reshape(-1, 4)
    return BoxTable("a.json", labels, *images, np.zeros(n, np.int64), boxes_xywh, np.ones(n, np.int64),
                    np.zeros(n), np.full(n, crowd))  # fmt: skip


def kinds(made: BoxTable, **options: Any) -> list[str]:
    return [fault.kind for fault in check_boxes(made, (50, 50), **options)]


def test_boxes_at_the_limits() -> None:
    assert kinds(table([])) == []
    assert kinds(table([[0, 0, 200, 100], [-0.5, 0, 50, 50], [160, 0, 40.5, 9]])) == []
    assert kinds(table([[-0.6, 0, 50, 50]])) == ["box_outside"]
    assert kinds(table([[200, 0, 5, 5]])) == ["box_away"]
    assert kinds(table([[0, 0, 8, 4]])) == []  # 2x2 in the input
    assert kinds(table([[0, 0, 7.9, 4]])) == ["box_tiny"]
    assert kinds(table([[0, 0, 8, 7.9]]), letterbox=True) == ["box_tiny"]  # a quarter of both sides
    assert kinds(table([[1e308, 1e308, 1e308, 1e308]])) == ["box_away"]


def test_crowds_may_be_tiny_and_the_same() -> None:
    assert kinds(table([[1, 1, 2, 2], [1, 1, 2, 2], [150, 50, 99, 9]], crowd=True)) == ["box_outside"]


def test_of_an_image_without_a_size_nothing_is_told() -> None:
    made = table([[1, 1, 2, 2], [3, 3, 0, 0]], size=(0, 0))
    assert kinds(made) == []
    assert np.isfinite(input_scale(made, (50, 50))).all()


def test_copies_of_boxes_in_any_order() -> None:
    boxes = [[1, 1, 50, 50], [9, 9, 30, 30], [1, 1, 50, 50.004], [1, 1, 50, 50], [9, 9, 30, 31]]
    assert kinds(table(boxes)) == ["duplicate_box"] * 2


def test_near_pairs_at_the_limits() -> None:
    base = np.random.default_rng(0).integers(50, 200, 256, dtype=np.uint8)
    one_cell, too_far, brighter, flat = base.copy(), base.copy(), base + 1, np.full(256, 90, np.uint8)
    one_cell[3] += 6
    too_far[3] += 7
    assert near_pairs(np.zeros((0, 256), np.uint8)) == []
    assert near_pairs(base[None]) == []
    assert near_pairs(np.stack([flat, flat, base, one_cell])) == [(2, 3)]
    assert near_pairs(np.stack([base, too_far])) == []
    assert near_pairs(np.stack([brighter, base])) == [(0, 1)]
    assert near_pairs(np.stack([base + 2, base])) == []  # two grey levels brighter


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["car", "cat", "van"], 0),
        (["traffic light", "Traffic_Light"], 1),
        (["glass", "glas"], 1),
        (["person", "persons"], 1),
        (["heron", "herons", "hero"], 1),
        (["giraffe", "girafe", "girafffe"], 2),
        (["class 11", "class 12", "n0144076", "n0144077"], 0),
    ],
)
def test_names_that_may_be_one(names: list[str], alike: int) -> None:
    labels = LabelMap(tuple(Label(i, name, i) for i, name in enumerate(names)), len(names))
    found = [f for f in check_classes(labels, {}, "a") if f.kind == "class_alike"]
    assert len(found) == alike, found


def test_real_photographs_are_whole(data_root: Path) -> None:
    for path in sorted((data_root / "coco_mini" / "val2017").glob("*.jpg")):
        assert incomplete(path.read_bytes()) == ""


def test_what_seems_to_be_of_an_absent_class_is_told() -> None:
    """Black-and-white masks whose 255 is ignored; annotations that are all crowd regions."""
    labels = LabelMap((Label(0, "background", 0), Label(1, "thing", 1)), 2)
    masks = count_classes(Contents(labels, Path(), []), [Examined(pixels={0: 90, 255: 10})])
    crowd = BoxTable(
        "x", labels, image_ids=np.array([1]), file_names=np.array(["a"]), heights=np.array([9]), widths=np.array([9]),
        image=np.array([0]), boxes_xywh=np.ones((1, 4)), slots=np.array([1]), area=np.ones(1), crowd=np.array([True]),
    )  # fmt: skip
    boxes = count_classes(Contents(labels, Path(), [], boxes=crowd), [])
    for counts, told in ((masks, "10% of the pixels hold ignored values"), (boxes, "1 of 1 boxes are crowd regions")):
        (fault,) = check_classes(labels, {"train": counts}, "x")
        assert fault.kind == "class_absent"
        assert f"class thing has no example; {told}" in fault.message
