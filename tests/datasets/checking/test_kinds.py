"""Each kind of fault has an example, and a clean data set has none."""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.faults import KINDS
from pocketvision.datasets.checking.remedies import REMEDIES

SIZE = 48, 64  # conftest.py's


@pytest.mark.parametrize("kind", ["Boxes", "Masks", "City", "Folders"])
def test_a_clean_data_set_has_no_faults(kind: str, make: Callable[[type], Any], world: Any) -> None:
    checked = make(getattr(world, kind)).check()
    absent = {"class_absent"} if kind == "City" else set()  # 17 of the 19 classes
    assert [f for f in checked.findings if f.fault.kind not in absent] == []
    assert set(checked.contents) == {"train", "val"}


def _spoil_record(table: str, **values: Any) -> Callable[..., None]:
    return lambda data, world: data.splits["train"][table][0].update(values)


def _without_size(data: Any, world: Any) -> None:
    _spoil_record("images", height=0)(data, world)
    data.write(data.splits["train"]["images"][0]["file_name"], b"no picture")


def _replaced(name: str, encode: Callable[[Any], bytes]) -> Callable[..., None]:
    return lambda data, world: data.write(name, encode(world))


def _with_box(*boxes: Any) -> Callable[..., None]:
    def spoil(data: Any, world: Any) -> None:
        for box, category in boxes:
            data.add(0, box, category=category)

    return spoil


def _png_chunk(name: bytes, content: bytes, *, crc: int | None = None) -> bytes:
    crc = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def _bomb(world: Any) -> bytes:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(b"")) + _png_chunk(b"IEND", b"")


def _wrong_checksum(world: Any) -> bytes:
    data = world.encoded(world.picture(0))
    return data[:33] + _png_chunk(b"tEXt", b"a\0b", crc=1) + data[33:]


def _jpeg_again(image: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _turned(world: Any, orientation: int) -> bytes:
    image = np.rot90(world.picture(0)) if orientation > 4 else world.picture(0)
    return world.encoded(np.ascontiguousarray(image), ".jpg", orientation=orientation)


def _annotated_unturned(data: Any, world: Any) -> None:
    data.write("t.jpg", world.encoded(world.picture(0), ".jpg", orientation=6))


def _same_name(data: Any, world: Any) -> None:
    data.splits["train"]["images"].append({**data.splits["train"]["images"][0], "id": 77})
    data.ignored = {"duplicate_image"}


def _case_names(data: Any, world: Any) -> None:
    (data.images / "T0.png").write_bytes(world.encoded(world.picture(50)))
    data.splits["train"]["images"].append({"id": 50, "file_name": "T0.png", "height": SIZE[0], "width": SIZE[1]})


def _folder_for_file(data: Any, world: Any) -> None:
    (data.images / "t0.png").unlink()
    (data.images / "t0.png").mkdir()


def _category(split: str, name: str, *, boxes: int = 0, crowd: int = 0) -> Callable[..., None]:
    """Another class in both splits, with boxes in one."""

    def spoil(data: Any, world: Any) -> None:
        for content in data.splits.values():
            content["categories"].append({"id": 9, "name": name})
        image = {"train": 0, "val": 6}[split]
        for place in range(boxes):
            data.add(image, [3 + place, 20 + place, 15, 14], category=9, split=split)
            data.splits[split]["annotations"][-1]["iscrowd"] = crowd

    return spoil


def _other_classes(data: Any, world: Any) -> None:
    data.splits["val"]["categories"][0]["name"] = "dog"


def _file(source: str, target: str) -> Callable[..., None]:
    def spoil(data: Any, world: Any) -> None:
        (data.images / target).write_bytes((data.images / source).read_bytes())

    return spoil


def _again(target: str) -> Callable[..., None]:
    def spoil(data: Any, world: Any) -> None:
        image = cv2.resize(world.picture(0), (128, 96), interpolation=cv2.INTER_CUBIC)
        (data.images / "t0.png").write_bytes(world.encoded(image))
        data.splits["train"]["images"][0].update(height=96, width=128)
        (data.images / target).write_bytes(_jpeg_again(image, 40))
        split = "train" if target.startswith("t") else "val"
        record = next(r for r in data.splits[split]["images"] if r["file_name"].startswith(target[:2]))
        (data.images / record["file_name"]).unlink()
        record.update(file_name=target, height=96, width=128)

    return spoil


def _without_mask(data: Any, world: Any) -> None:
    (data.root / "train/labels/0.png").unlink()


def _file_of(name: str) -> Callable[..., None]:
    return lambda data, world: data.write(name, b"any")


def _renamed(name: str, other: str) -> Callable[..., None]:
    def spoil(data: Any, world: Any) -> None:
        (image,) = (data.root / "train/images").glob("0.*")
        (data.root / name).rename(data.root / other.replace(".jpg", image.suffix))

    return spoil


def _jpeg_mask(data: Any, world: Any) -> None:
    (data.root / "train/labels/0.png").unlink()
    data.write("train/labels/0.jpg", world.encoded(np.zeros(SIZE, np.uint8), ".jpg"))


def _contradicting_instances(data: Any, world: Any) -> None:
    path = str(data.path("train", 0, "instanceIds"))
    ids = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    ids[20:24, 3:6] = 24001
    cv2.imwrite(path, ids)


def _empty_class(data: Any, world: Any) -> None:
    (data.root / "train/stork").mkdir()
    (data.root / "val/stork").mkdir()
    data.ignored = {"class_absent"}


def _deep(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def _with_nines(world: Any) -> bytes:
    return world.encoded(np.where(world.mask(0) == 1, np.uint8(9), world.mask(0)))


def _without(kind: str) -> Callable[..., None]:
    return lambda data, world: data.path("train", 0, kind).unlink()


_MASK = "train/labels/0.png"

# (kind of fault, data set, what spoils it, part of the message)
EXAMPLES: list[tuple[str, str, Callable[..., None], str]] = [
    ("format", "Boxes", _spoil_record("annotations", bbox=[1, 2, "x", 4]), "has bbox"),
    ("format", "Boxes", lambda data, world: data.splits.update(val=[]), "expected"),
    ("outside_root", "Boxes", _spoil_record("images", file_name="../t0.png"), "outside the image folder"),
    ("no_size", "Boxes", _without_size, "has no size: .*cannot be read"),
    ("clashing_ids", "Boxes", _spoil_record("images", id=1), "has the id 1"),
    ("unknown_category", "Boxes", _spoil_record("annotations", category_id=7), "category_id 7"),
    ("unknown_image", "Boxes", _spoil_record("annotations", image_id=7777), "image_id 7777"),
    ("other_classes", "Boxes", _other_classes, "1 dog"),
    ("clashing_annotation_ids", "Boxes", _spoil_record("annotations", id=1), "2 annotations have the id 1:"),
    ("same_name", "Boxes", _same_name, "lists t0.png several times"),
    ("same_name", "Masks", _replaced("train/images/0.jpg", lambda w: w.encoded(w.picture(77), ".jpg")), "differ"),
    ("case_names", "Boxes", _case_names, "T0.png and t0.png differ only"),
    ("unlisted", "Boxes", _file("t0.png", "more.png"), "more.png is not listed by any split"),
    ("left_out", "Masks", _file_of("train/images/x.raw"), r"1 file with another extension \(x\.raw\)"),
    ("left_out", "Masks", _file_of("train/images/.ipynb_checkpoints/0.png"), "1 hidden folder"),
    ("near_name", "Masks", _renamed("train/labels/0.png", "train/labels/0.jpg.PNG"), "is read as the mask of"),
    ("unlisted", "Masks", _replaced("val/labels/77.png", lambda w: w.encoded(w.mask(0))), "77.png is a mask without"),
    ("missing", "Boxes", lambda data, world: (data.images / "t0.png").unlink(), "t0.png does not exist"),
    ("unreadable", "Boxes", _folder_for_file, "t0.png cannot be read: Is a directory"),
    ("empty_file", "Boxes", _replaced("t.png", lambda w: b""), "t.png is empty"),
    ("undecodable", "Boxes", _replaced("t.gif", lambda w: b"GIF89a..."), "t.gif"),
    ("undecodable", "Boxes", _replaced("t.png", lambda w: b"<!DOCTYPE html><p>404"), "its content is a web page"),
    ("truncated", "Boxes", _replaced("t.jpg", lambda w: w.encoded(w.picture(0), ".jpg")[:-300]), "is truncated"),
    ("truncated", "Boxes", _replaced("t.jpg", lambda w: w.encoded(w.picture(0), ".jpg")[:-300] + b"\xff\xd9"), "early"),
    ("truncated", "Boxes", _replaced("t.png", lambda w: w.encoded(w.picture(0))[:-200]), "IEND chunk is missing"),
    ("damaged", "Boxes", _replaced("t.png", _wrong_checksum), "checksum of its tEXt chunk"),
    ("mislabelled", "Boxes", _replaced("t.jpg", lambda w: w.encoded(w.picture(0))), "t.jpg is a PNG"),
    ("bomb", "Boxes", _replaced("t.png", _bomb), "60000x60000 pixels"),
    ("bomb", "Masks", _replaced(_MASK, _bomb), "60000x60000 pixels"),
    ("wrong_size", "Boxes", _spoil_record("images", width=63), "is 64x48 .*says 63x48"),
    ("exif_rotation", "Boxes", _annotated_unturned, "is 48x64 .*after the rotation .*says 64x48"),
    ("exif_unclear", "Boxes", _replaced("t.jpg", lambda w: _turned(w, 3)), "orientation 3"),
    ("grey", "Boxes", _replaced("t.png", lambda w: w.encoded(w.picture(0), mode="L")), "is gray"),
    ("alpha", "Boxes", _replaced("t.png", lambda w: w.encoded(w.picture(0), mode="RGBA")), "has transparency"),
    ("cmyk", "Boxes", _replaced("t.jpg", lambda w: w.encoded(w.picture(0), ".jpg", mode="CMYK")), "is CMYK"),
    ("deep", "Boxes", _replaced("t.png", lambda w: _deep(w.picture(0).astype(np.uint16) * 257)), "more than 8 bits"),
    ("box_away", "Boxes", _with_box(([70, 3, 9, 9], 1)), "x 70, y 3, w 9, h 9 of class cat lies outside .*64x48"),
    ("box_degenerate", "Boxes", _with_box(([7, 3, 0, 9], 2)), "of class heron has no width"),
    ("box_degenerate", "Boxes", _with_box(([7, 3, 5, -9], 2)), "no height"),
    ("box_outside", "Boxes", _with_box(([60, 3, 9, 9], 1)), "extends 5 pixels outside"),
    ("box_tiny", "Boxes", _with_box(([7, 3, 1.5, 9], 1)), "is 1.5x9 pixels"),
    ("duplicate_box", "Boxes", _with_box(([7, 30, 15, 9], 1), ([7, 30, 15, 9], 1)), "occurs 2 times"),
    ("two_classes", "Boxes", _with_box(([7, 30, 15, 9], 1), ([7, 30, 15, 9], 2)), "several classes: cat, heron"),
    ("missing_mask", "Masks", _without_mask, "0.png has no mask"),
    ("missing_mask", "City", _without("labelIds"), "labelIds.png does not exist"),
    ("mask_type", "Masks", _replaced(_MASK, lambda w: w.encoded(w.picture(0))), "color channels"),
    ("mask_type", "Masks", _replaced(_MASK, lambda w: _deep(np.full(SIZE, 300, np.uint16))), "300"),
    ("mask_type", "Masks", _jpeg_mask, "is a JPEG: lossy"),
    ("mask_size", "Masks", _replaced(_MASK, lambda w: w.encoded(np.ascontiguousarray(w.mask(0)[:, 1:]))), "says 63x48"),
    ("unknown_label", "Masks", _replaced(_MASK, _with_nines), r"9 \(2,368 pixels\)"),
    ("all_ignored", "Masks", _replaced(_MASK, lambda w: w.encoded(np.full(SIZE, 255, np.uint8))), "all pixels of"),
    ("instances", "City", _contradicting_instances, "in 12 pixels, the first at x 3, y 20: id 24001"),
    ("instances", "City", _without("instanceIds"), "does not exist, although"),
    ("class_empty", "Folders", _empty_class, "has no images"),
    ("other_classes", "Folders", _replaced("val/dog/1.png", lambda w: w.encoded(w.picture(300))), "dog"),
    ("class_untrained", "Boxes", _category("val", "stork", boxes=2), "stork is in 1 image of val"),
    ("class_absent", "Boxes", _category("val", "stork"), "stork has no example in any split$"),
    ("class_absent", "Boxes", _category("val", "stork", boxes=2, crowd=1), "2 of .* crowd regions or difficult"),
    ("class_rare", "Boxes", _category("train", "stork", boxes=9), r"stork has 9 boxes in train \(in 1 image\)"),
    ("class_unevaluated", "Boxes", _category("train", "stork", boxes=10), "stork is in no image of val"),
    ("class_alike", "Boxes", _category("train", "Cats", boxes=10), "'cat' and 'Cats'"),
    ("overlap", "Boxes", _file("t0.png", "v6.png"), "v6.png of val is the same file as .*t0.png of train"),
    ("near_overlap", "Boxes", _again("v6.jpg"), "v6.jpg of val is nearly the same picture as .*t0.png of train"),
    ("duplicate_image", "Boxes", _file("t0.png", "t1.png"), "t1.png of train is the same file as .*t0.png of train"),
    ("near_duplicate", "Boxes", _again("t1.jpg"), "t1.jpg of train is nearly the same picture as .*t0.png of train"),
]  # fmt: skip
# What one fault brings along.
ALONG = {
    "outside_root": {"unknown_image", "unlisted"}, "no_size": {"unknown_image", "unlisted"},
    "clashing_ids": {"unlisted", "duplicate_box", "unknown_image"}, "class_alike": {"class_unevaluated"},
    "class_rare": {"class_unevaluated"},
}  # fmt: skip
ELSEWHERE = {
    "spare_annotation",  # tests/datasets/test_yolo.py
    "crash", "no_anchor",  # in tests/tools/checking
    "class_ignored",  # test_masks.py
    "missing_annotation", "not_normalized", "shared_annotation", "other_filename", "zero_based",  # test_formats.py
}  # fmt: skip


def test_of_pictures_none_of_which_decodes(make: Callable[[type], Any], world: Any) -> None:
    data = make(world.Boxes)
    for number, path in enumerate(sorted(data.images.iterdir())):
        path.write_bytes(b"no picture" * (number + 1))
    assert set(data.check().by_kind()) == {"undecodable"}


def test_every_kind_has_an_example_and_a_remedy() -> None:
    assert {kind for kind, *_ in EXAMPLES} | ELSEWHERE == set(KINDS)
    assert set(REMEDIES) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "data_set", "spoil", "message"), EXAMPLES, ids=[f"{i}-{kind}" for i, (kind, *_) in enumerate(EXAMPLES)]
)
def test_an_example_is_found(
    kind: str, data_set: str, spoil: Callable[..., None], message: str, make: Callable[[type], Any], world: Any
) -> None:
    data = make(getattr(world, data_set))
    spoil(data, world)
    checked = data.check()
    found = checked.by_kind()
    assert kind in found, [f.fault.message for f in checked.findings]
    assert any(re.search(message, f.fault.message) for f in found[kind]), found[kind]
    allowed = {kind, *ALONG.get(kind, ()), *getattr(data, "ignored", ())}
    if data_set == "City":
        allowed.add("class_absent")
    assert set(found) <= allowed, [f.fault.message for f in checked.findings]
