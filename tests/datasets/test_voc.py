"""PASCAL VOC's xml: both layouts, what its numbers mean, and every complaint."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.faults import Fault
from pocketvision.datasets.annotations.voc_xml import parse_voc
from pocketvision.datasets.labels import VOC_CLASSES, coco_labels
from pocketvision.datasets.voc import VocDetection

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def thing(name: str = "dog", box: tuple = (1, 1, 40, 30), more: str = "") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def annotation(*objects: str, size: str = SIZE, filename: str = "") -> str:
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, np.full((30, 40, 3), value, np.uint8))[1].tofile(path)


def plain(root: Path, **xmls: str | bytes) -> Path:
    for name, text in xmls.items():
        picture(root / f"{name}.jpg")
        (root / f"{name}.xml").write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def devkit(root: Path, lists: dict[str, str], **xmls: str) -> Path:
    for name, text in xmls.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, text in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    return root


def test_an_image_without_objects_is_a_negative(tmp_path: Path) -> None:
    data = VocDetection(plain(tmp_path, a=annotation()), classes=["dog"])
    sample = data.read(0)
    assert (sample.image_id, len(sample.boxes), data.labels.names) == (1, 0, {1: "dog"})
    with pytest.raises(ValueError, match="lists no classes, and there are no objects"):
        VocDetection(tmp_path)


def test_one_list_alone_is_all_there_is(tmp_path: Path) -> None:
    """CVAT writes default.txt, or the names Train and Validation."""
    xmls = {name: annotation(thing()) for name in "abcdef"}
    root = devkit(tmp_path / "default", {"default": "a\nb\nc\nd\ne\n"}, **xmls)
    train, val = (VocDetection(root, split=split, holdout=0.3) for split in ("train", "val"))
    assert sorted([*train.file_names, *val.file_names]) == [f"{name}.jpg" for name in "abcde"]
    assert "held out" in val.notes[-1]
    root = devkit(tmp_path / "names", {"Train": "a\n", "Validation": "b\n", "Test": "c\n"}, **xmls)
    found = [VocDetection(root, split=split, holdout=0.3).file_names.tolist() for split in ("train", "val", "test")]
    assert found == [["a.jpg"], ["b.jpg"], ["c.jpg"]]
    for lists in ({"test": "a\n"}, {"day1": "a\n", "day2": "b\n"}):
        root = devkit(tmp_path / "-".join(lists), lists, **xmls)
        with pytest.raises(FileNotFoundError, match=r"list of images not found: .*train\.txt; there are lists for"):
            VocDetection(root)


def test_lists_may_have_extensions_and_folders(tmp_path: Path) -> None:
    xmls = {name: annotation(thing()) for name in ("a", "b.c", "d", "e", "f", "g.jpg")}
    root = devkit(
        tmp_path, {"train": "a.jpg\nb.c\nJPEGImages/d.jpg\n.\\JPEGImages\\e.JPG\nf.xml\na\ng.jpg 1\n"}, **xmls
    )
    picture(root / "JPEGImages/a.png")
    data = VocDetection(root)
    assert data.file_names.tolist() == ["a.jpg", "b.c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg.jpg"]
    assert [len(data.ground_truth(i)["labels"]) for i in range(len(data))] == [1] * 6


def test_a_plain_folder_counts_from_0_and_a_devkit_from_1(tmp_path: Path) -> None:
    whole = annotation(thing(box=(0, 0, 40, 30)), thing(box=(3.5, 4, 10, 12)))
    data = VocDetection(plain(tmp_path / "plain", a=whole))
    assert data.ground_truth(0)["boxes_xywh"].tolist() == [[0, 0, 40, 30], [3.5, 4, 6.5, 8]]
    assert data.ground_truth(0)["area"].tolist() == [1200, 52]
    root = devkit(
        tmp_path / "VOC2007", {"train": "a\n"}, a=annotation(thing(box=(1, 1, 40, 30)), thing(box=(4.5, 5, 10, 12)))
    )
    data = VocDetection(root)
    assert data.ground_truth(0)["boxes_xywh"].tolist() == [[0, 0, 40, 30], [3.5, 4, 6.5, 8]]
    other = VocDetection(root, one_based=False)
    assert other.ground_truth(0)["boxes_xywh"].tolist() == [[1, 1, 39, 29], [4.5, 5, 5.5, 7]]
    shifted = VocDetection(tmp_path / "plain", one_based=True)
    assert shifted.ground_truth(0)["boxes_xywh"].tolist()[0] == [-1, -1, 41, 31]
    assert "the corner 0, 0, but VOC's pixel numbers start at 1" in shifted.notes[-1]


def test_what_is_read_of_an_object(tmp_path: Path) -> None:
    person = thing(
        "person", (2, 3, 9, 9), "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><truncated>1</truncated>"
    )
    hard = thing("dog", (1, 1, 5, 5), "<difficult>1</difficult><occluded>1</occluded>")
    root = plain(tmp_path, a=annotation(person, hard, thing("cat")))
    data = VocDetection(root)
    assert data.labels.names == {1: "cat", 2: "dog", 3: "person"}
    assert data.ground_truth(0)["labels"].tolist() == [3, 2, 1]
    assert data.ground_truth(0)["crowd"].tolist() == [False, True, False]
    assert len(data.read(0).crowd_boxes) == 1
    assert VocDetection(root, difficult="object").ground_truth(0)["crowd"].tolist() == [False] * 3
    assert VocDetection(root, difficult="drop", classes=["cat", "dog", "person"]).ground_truth(0)[
        "labels"
    ].tolist() == [3, 1]
    with pytest.raises(ValueError, match="difficult=maybe: choose one of crowd, object, drop"):
        VocDetection(root, difficult="maybe")


def test_the_class_list(tmp_path: Path) -> None:
    root = plain(tmp_path, a=annotation(thing("dog")), b=annotation(thing("cat")))
    assert VocDetection(root).labels.names == {1: "cat", 2: "dog"}
    (root / "classes.txt").write_text("dog\nbird\ncat\n")
    assert VocDetection(root).labels.names == {1: "dog", 2: "bird", 3: "cat"}
    voc = VocDetection(root, classes=VOC_CLASSES[1:])
    assert (voc.labels.num_classes, voc.ground_truth(0)["labels"].tolist()) == (20, [12])
    coco = VocDetection(root, labels=coco_labels())
    assert (coco.labels.num_classes, coco.ground_truth(0)["labels"].tolist()) == (80, [17])
    for classes, message in (
        (["dog", "dog"], "'dog' is listed twice"),
        (["dog"], "the unknown class 'cat': the classes are dog"),
    ):
        with pytest.raises(ValueError, match=message):
            VocDetection(root, classes=classes)


def test_the_devkit(tmp_path: Path) -> None:
    xmls = {name: annotation(thing(name)) for name in ("a", "b", "c", "d")}
    lists = {"train": "b\na\n", "val": "c\n", "cat_train": "a 1\n", "trainval": "a\nb\nc"}
    root = devkit(tmp_path / "VOC2007", lists, **xmls)
    data = VocDetection(root)
    assert data.file_names.tolist() == ["b.jpg", "a.jpg"]
    assert data.image_ids.tolist() == [1, 2]
    assert data.labels.num_classes == 4  # of all xmls, so that splits agree
    assert VocDetection(root, split="val", holdout=0.5).file_names.tolist() == ["c.jpg"]
    assert len(VocDetection(root, split="trainval")) == 3
    with pytest.raises(FileNotFoundError, match=r"test\.txt; there are lists for train, trainval, val"):
        VocDetection(root, split="test")
    devkit(tmp_path / "VOC2012", {"train": "e 1\n"}, e=annotation(thing("a")))
    both = VocDetection(tmp_path)
    assert both.file_names.tolist() == [f"VOC2007/JPEGImages/{n}.jpg" for n in "ba"] + ["VOC2012/JPEGImages/e.jpg"]
    assert both.read(2).image.shape == (30, 40, 3)
    assert len(VocDetection(tmp_path, years=[2012])) == len(VocDetection(tmp_path, years=["VOC2012"])) == 1
    with pytest.raises(FileNotFoundError, match=r"years=\[2010\]: .* has VOC2007, VOC2012"):
        VocDetection(tmp_path, years=[2010])
    with pytest.raises(ValueError, match=r"years=\[2007\] selects folders"):
        VocDetection(root, years=[2007])
    for where in (root, tmp_path):
        with pytest.raises(ValueError, match=r"is only for a plain folder: .* has its own"):
            VocDetection(where, annotations=tmp_path)
    (tmp_path / "up" / "VOCdevkit").mkdir(parents=True)
    root.rename(tmp_path / "up" / "VOCdevkit" / "VOC2007")
    assert len(VocDetection(tmp_path / "up", split="val")) == 1


def test_without_a_list_for_validation_some_are_held_out(tmp_path: Path) -> None:
    xmls = {f"i{i}": annotation(thing()) for i in range(9)}
    root = devkit(tmp_path / "kit", {"train": "".join(f"i{i}\n" for i in range(8))}, **xmls)
    for folder, total in ((root, 8), (plain(tmp_path / "plain", **xmls), 9)):
        train, val = (VocDetection(folder, split=split, holdout=0.3) for split in ("train", "val"))
        names = [*train.file_names, *val.file_names]
        assert len(set(names)) == len(names) == total
        assert 0 < len(val) < len(train)
        assert sorted([*train.image_ids, *val.image_ids]) == list(range(1, total + 1))
        assert f"{len(val)} of {total} images {'is' if len(val) == 1 else 'are'} held out" in train.notes[-1]
        assert len(VocDetection(folder)) == total
        with pytest.raises(ValueError, match="has no validation split: set holdout"):
            VocDetection(folder, split="val")


def test_both_forms_of_accents_are_one_class(tmp_path: Path) -> None:
    plain(tmp_path, a=annotation(thing("Ka\u0308se"), thing("K\u00e4se")))
    assert VocDetection(tmp_path, classes=["dog", "K\u00e4se"]).ground_truth(0)["labels"].tolist() == [2, 2]


def test_objects_of_which_none_is_whole_are_told(tmp_path: Path) -> None:
    plain(tmp_path, a=annotation("<object><name>dog</name><polygon/></object>"), b=annotation())
    message = r"a\.xml: object 1 \(dog\) has no <bndbox>: .*; 1 of 2 XML files are like this, and no object is whole"
    with pytest.raises(ValueError, match=message):
        VocDetection(tmp_path)


@pytest.mark.parametrize("folders", ["", "images"])
def test_a_folder_for_each_split(tmp_path: Path, folders: str) -> None:
    """As Roboflow exports them, or in both folders; the classes are those of all splits."""
    plain(tmp_path / folders / "train", a=annotation(thing("dog")))
    plain(tmp_path / folders / "valid", b=annotation(thing("cat")), c=annotation())
    for path in (tmp_path / folders).rglob("*.xml") if folders else ():
        (tmp_path / "Annotations" / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "Annotations" / path.parent.name / path.name)
    for split, names in (("train", ["a.jpg"]), ("val", ["b.jpg", "c.jpg"])):
        data = VocDetection(tmp_path, split=split, holdout=0.2)
        assert data.file_names.tolist() == names
        assert data.labels.names == {1: "cat", 2: "dog"}


def test_two_folders_and_photographs_without_xml(tmp_path: Path) -> None:
    picture(tmp_path / "images/sub/ü x.png")
    picture(tmp_path / "images/not labelled.jpg")
    (tmp_path / "annotations/sub").mkdir(parents=True)
    (tmp_path / "annotations/sub/ü x.xml").write_text(annotation(thing()), encoding="utf-8")
    data = VocDetection(tmp_path)
    assert data.file_names.tolist() == ["sub/ü x.png"]
    assert data.notes[-1] == "1 photograph has no XML file, such as not labelled; skipped as not annotated"
    (tmp_path / "annotations").rename(tmp_path / "elsewhere")
    assert len(VocDetection(tmp_path, annotations=tmp_path / "elsewhere")) == 1
    with pytest.raises(FileNotFoundError, match=r"no XML files in .*images"):
        VocDetection(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*nowhere"):
        VocDetection(tmp_path, annotations=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*none, expected VOCdevkit"):
        VocDetection(tmp_path / "none")


def test_which_image_an_xml_is_of(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / name)
    for name, stated in (("a", r"C:\mine\a.png"), ("b", "c.jpg"), ("renamed", "c.jpg")):
        (tmp_path / f"{name}.xml").write_text(annotation(thing(), filename=stated))
    data = VocDetection(tmp_path)
    assert data.file_names.tolist() == ["a.png", "b.jpg", "c.jpg"]
    assert "b.xml: states c.jpg, an existing image, but has the file name of b.jpg" in data.notes[-1]
    (tmp_path / "c.xml").write_text(annotation())
    with pytest.raises(ValueError, match=r"renamed\.xml: annotates the image c\.jpg, which .*c\.xml also annotates"):
        VocDetection(tmp_path)
    (tmp_path / "c.xml").unlink()
    (tmp_path / "renamed.xml").write_text(annotation(filename="../../etc/passwd"))
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images .* missing .* renamed\.jpg"):
        VocDetection(tmp_path)


def test_sizes(tmp_path: Path) -> None:
    zero = "<size><width>0</width><height>0</height></size>"
    other = "<size><width>30</width><height>40</height></size>"
    root = plain(tmp_path, a=annotation(thing(), size=""), b=annotation(size=zero), c=annotation(size=other))
    data = VocDetection(root)
    assert [(data.heights[i], data.widths[i]) for i in range(3)] == [(30, 40), (30, 40), (40, 30)]
    with pytest.raises(ValueError, match=r"c\.jpg decodes to 40x30 .* says 30x40.*EXIF"):
        data.read(2)
    (root / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"a\.xml: has no <size>, and the image's size cannot be read: .*a\.jpg cannot be decoded"
    ):
        VocDetection(root)


def test_encodings(tmp_path: Path) -> None:
    for number, (encoding, name) in enumerate(
        (("utf-8", "Hündin"), ("utf-16", "狗"), ("gbk", "狗"), ("windows-1252", "Hündin"))
    ):
        text = f'<?xml version="1.0" encoding="{encoding}"?>{annotation(thing(name))}'
        (tmp_path / f"{number}.xml").write_bytes(text.encode(encoding))
        assert parse_voc(tmp_path / f"{number}.xml").objects[0].name == name
    (tmp_path / "blank.xml").write_text('\n<?xml version="1.0"?>' + annotation(thing("cat")))
    assert parse_voc(tmp_path / "blank.xml").objects[0].name == "cat"
    (tmp_path / "bom.xml").write_bytes(b"\xef\xbb\xbf" + annotation(thing("é")).encode())
    assert parse_voc(tmp_path / "bom.xml").objects[0].name == "é"


def test_a_prefix_needs_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(annotation(thing() + '<tool:note tool:by="x"/>'))
    assert parse_voc(tmp_path / "a.xml").objects[0].name == "dog"


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + annotation(thing("&b;"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid XML: no element found"),
        ("<annotation>", "is not valid XML: no element found"),
        ("<annotation/><annotation/>", "is not valid XML: junk after"),
        (b"\xff\xfe\x00", "is not valid XML"),
        ("<html></html>", "begins with <html>: expected <annotation>"),
        (BOMB, "has a DOCTYPE: rejected"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "has a DOCTYPE: rejected"),
        ("<annotation>&x;</annotation>", "is not valid XML: undefined entity"),
        ("<annotation>" + "<a>" * 99, "more than 32 levels deep"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "declares the encoding klingon.*save it as UTF-8"),
        ('<?xml version="1.0" encoding="hex"?><annotation/>', "declares the encoding hex"),
        (b'<?xml version="1.0" encoding="gbk"?>' + b"<annotation>\xff\xff", "declares the encoding gbk"),
        (annotation(thing("é")).encode("latin-1"), "is not valid XML: not well-formed .*Remedy: save it as UTF-8"),
        (annotation(thing("")), "object 1 has no <name>"),
        (annotation("<object><name>dog</name></object>"), r"object 1 \(dog\) has no <bndbox>"),
        (
            annotation(thing(), thing(box=(1, 2, 3, "x"))),
            "object 2 .dog. has the box .*'x'.*: expected four finite numbers",
        ),
        (annotation(thing(box=(1, 2, 3, "nan"))), "expected four finite numbers"),
        (annotation(thing(box=(1, 2, 3, "1e999"))), "expected four finite numbers"),
        (annotation(thing(more="<difficult>hard</difficult>")), "difficult 'hard': expected 0 or 1"),
    ],
)
def test_faults(tmp_path: Path, content: str | bytes, message: str) -> None:
    plain(tmp_path, a=annotation(thing()), b=content)
    with pytest.raises(ValueError, match=rf"b\.xml.*{message}"):
        VocDetection(tmp_path)
    faults: list[Fault] = []
    table = VocDetection(tmp_path, report=faults.append).table
    assert {fault.kind for fault in faults} == {"format"}
    assert faults[0].path == str(tmp_path / "b.xml")
    assert table.file_names[0] == "a.jpg"


def test_every_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    root = devkit(tmp_path, {"train": "a\nb\n"}, a=annotation(thing("bird"), thing("dog"), thing("dog", (0, 1, 2, 2))))
    faults: list[Fault] = []
    table = VocDetection(root, classes=["dog"], report=faults.append).table
    assert [fault.kind for fault in faults] == ["missing_annotation", "unknown_category", "zero_based"]
    assert (table.file_names.tolist(), table.slots.tolist()) == (["a.jpg"], [1, 1])
    with pytest.raises(ValueError, match=r"annotation file not found: .*b\.xml"):
        VocDetection(root, classes=["dog"])
    (root / "ImageSets/Main/train.txt").write_text("../../x\n")
    with pytest.raises(ValueError, match=r"train\.txt lists '\.\./\.\./x'"):
        VocDetection(root)


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(tmp_path, a=annotation(thing()))
    monkeypatch.setattr("pocketvision.datasets.annotations.voc_xml._MAX_BYTES", 50)
    with pytest.raises(ValueError, match=r"a\.xml has 0 MB: expected the annotation of one image"):
        VocDetection(tmp_path)


def test_its_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    def of(name: str, **more: Any) -> str:
        return VocDetection(plain(tmp_path / name, a=annotation(thing(**more))), classes=["dog"]).fingerprint()

    assert of("x") == of("y")
    assert of("x") != of("z", box=(1, 1, 40, 29.5))


@pytest.mark.parametrize(
    ("image", "xml"), [("a.jpg", "a.jpg.xml"), ("A b.jpg", "a%20b.XML"), ("a.jfif", "A.xml"), ("s/a.jpg", "s\\a.xml")]
)
def test_xml_files_in_another_spelling_are_read_and_said(tmp_path: Path, image: str, xml: str) -> None:
    for root, images, xmls in (
        (tmp_path / "plain", "images", "labels"),
        (tmp_path / "kit", "JPEGImages", "Annotations"),
    ):
        picture(root / images / "x.png")
        (root / images / image).parent.mkdir(exist_ok=True)
        (root / images / "x.png").rename(root / images / image)
        (root / images / "._y.jpg").touch()
        (root / xmls).mkdir()
        (root / xmls / xml).write_text(annotation(thing()))
    lists = tmp_path / "kit" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(image.rpartition(".")[0])
    (lists / "._train.txt").write_text("Mac OS X")
    for root in (tmp_path / "plain", tmp_path / "kit"):
        data = VocDetection(root, classes=["dog"])
        assert (data.file_names.tolist(), len(data.ground_truth(0)["labels"])) == ([image], 1)
        assert any(xml in note and "is read as the XML file of" in note for note in data.notes)
        assert any("1 hidden file (._y.jpg)" in note for note in data.notes)
