"""COCO annotations: grouping, slots, crowds, clipping, and every complaint."""

import copy
import json
import logging

import cv2
import numpy as np
import pytest
from pocketvision.datasets.annotations.boxes import xywh_to_xyxy
from pocketvision.datasets.annotations.faults import Fault
from pocketvision.datasets.annotations.sample import log_summary
from pocketvision.datasets.annotations.shared import Names
from pocketvision.datasets.coco import CocoDetection, read_coco, read_truth
from pocketvision.datasets.labels import coco_labels

CATEGORIES = [{"id": 7, "name": "train"}, {"id": 3, "name": "car", "supercategory": "vehicle"}]


def _annotation(image_id=1, category_id=3, bbox=(2, 3, 10, 8), **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


@pytest.fixture
def write(tmp_path):
    """Writes a data set of 30x40 images (id 1, 2, ...) and returns the arguments of CocoDetection."""

    def build(annotations=(), *, num_images=2, change=None):
        (tmp_path / "images").mkdir(exist_ok=True)
        images = []
        for i in range(1, num_images + 1):
            images.append({"id": i, "file_name": f"{i}.png", "height": 30, "width": 40})
            cv2.imwrite(str(tmp_path / f"images/{i}.png"), np.full((30, 40, 3), i, np.uint8))
        data = {"images": images, "annotations": list(annotations), "categories": copy.deepcopy(CATEGORIES)}
        if change:
            change(data)
        (tmp_path / "a.json").write_text(json.dumps(data))
        return {"annotations": tmp_path / "a.json", "images": tmp_path / "images"}

    return build


def test_images_without_annotations_are_negatives(write):
    data = CocoDetection(**write())
    assert len(data) == 2
    sample = data.read(1)
    assert (sample.image_id, sample.image.shape, int(sample.image[0, 0, 0])) == (2, (30, 40, 3), 2)
    for boxes, labels in ((sample.boxes, sample.labels), (sample.crowd_boxes, sample.crowd_labels)):
        assert (boxes.shape, boxes.dtype, labels.shape, labels.dtype) == ((0, 4), np.float32, (0,), np.int64)
    assert {key: len(value) for key, value in sample.ground_truth.items()} == dict.fromkeys(
        ("boxes_xywh", "labels", "area", "crowd"), 0
    )


def test_truth_without_images_is_that_of_the_data(write):
    paths = write([_annotation(2, 7, area=12.5), _annotation(1, 3, iscrowd=1), _annotation(2, 3)], num_images=3)
    data = CocoDetection(**paths)
    labels, truth = read_truth(paths["annotations"])
    assert labels == data.labels
    assert list(truth) == [1, 2, 3]
    for index, found in enumerate(truth.values()):
        expected = data.read(index).ground_truth
        assert {key: array.tolist() for key, array in found.items()} == {k: a.tolist() for k, a in expected.items()}
    with pytest.raises(FileNotFoundError, match="annotation file not found"):
        read_truth("no.json")


def test_truth_needs_no_sizes_but_ids_once(write):
    paths = write(change=lambda data: [image.pop("height") for image in data["images"]])
    assert len(read_truth(paths["annotations"])[1]) == 2
    paths = write(change=lambda data: data["images"].append({"id": 1}))
    with pytest.raises(ValueError, match="has the id 1, which another image also uses"):
        read_truth(paths["annotations"])


def test_boxes_labels_and_crowds(write):
    data = CocoDetection(
        **write(
            [
                _annotation(2, 7, (1, 1, 5, 5), area=12.5, id=9),
                _annotation(1, 3, (0, 0, 40, 30), iscrowd=1),
                _annotation(2, 3, (2.5, 3, 10, 8)),
            ]
        )
    )
    assert data.labels.names == {1: "car", 2: "train"}  # by id, not in the file's order
    assert data.labels.labels[0].category == "vehicle"
    first, second = data.read(0), data.read(1)
    assert (first.boxes.tolist(), first.crowd_boxes.tolist(), first.crowd_labels.tolist()) == (
        [],
        [[0, 0, 40, 30]],
        [1],
    )
    assert second.boxes.tolist() == [[1, 1, 6, 6], [2.5, 3, 12.5, 11]]
    assert second.labels.tolist() == [2, 1]
    assert second.ground_truth["area"].tolist() == [12.5, 80.0]  # the box's area where the file gives none
    assert first.ground_truth["crowd"].tolist() == [True]
    assert data.notes == [
        f"2 images (0 without annotations), 2 boxes of 2 classes, 1 crowd region ({data.annotations})"
    ]


def test_slots(write):
    files = write([_annotation(category_id=7)])
    coco91 = CocoDetection(**files, slots="coco91")
    assert (coco91.labels.num_classes, coco91.labels.names) == (90, {3: "car", 7: "train"})
    assert coco91.read(0).labels.tolist() == [7]
    imposed = CocoDetection(**files, labels=coco_labels())
    assert imposed.labels.num_classes == 80
    assert imposed.read(0).ground_truth["labels"].tolist() == [7]


def test_boxes_outside_are_clipped_or_dropped_with_a_count(write, caplog):
    boxes = [
        (-5, 2, 10, 5),
        (0.2, 0, 40, 30),
        (50, 5, 5, 5),
        (3, 3, 0, 5),
        (3, 3, -2, 5),
        (1, 1, 2, 2),
        (0, 0, 10**200, 10**200),
    ]
    data = CocoDetection(**write([_annotation(bbox=box) for box in boxes]))
    sample = data.read(0)
    np.testing.assert_allclose(sample.boxes, [[0, 2, 5, 7], [0.2, 0, 40, 30], [1, 1, 3, 3], [0, 0, 40, 30]])
    assert sample.ground_truth["boxes_xywh"].tolist() == [list(map(float, box)) for box in boxes]
    assert data.notes[1:] == [
        "2 boxes extend outside their image; clipped for training",  # 0.2 pixels are rounding
        "3 boxes have no area inside their image; dropped in training, kept in evaluation",
    ]
    with caplog.at_level(logging.INFO):
        log_summary(data)
    assert caplog.text.count("CocoDetection: ") == 3


def test_limit_and_with_annotations_only(write):
    files = write([_annotation(3), _annotation(2), _annotation(3, 7)], num_images=4)
    assert CocoDetection(**files, limit=2).image_ids.tolist() == [1, 2]
    annotated = CocoDetection(**files, with_annotations_only=True)
    assert annotated.image_ids.tolist() == [2, 3]
    assert annotated.read(1).labels.tolist() == [1, 2]
    assert CocoDetection(**files, with_annotations_only=True, limit=1).image_ids.tolist() == [2]


def test_ids_need_no_order(write):
    def change(data):
        for image, i in zip(data["images"], (9, 500, 4), strict=True):
            image["id"] = i

    data = CocoDetection(**write([_annotation(4), _annotation(500), _annotation(4, 7)], num_images=3, change=change))
    assert [data.read(i).labels.tolist() for i in range(3)] == [[], [1], [1, 2]]


def test_annotations_are_flat_arrays(write):
    """Lists of dicts would be copied into every worker by reference counting."""
    data = CocoDetection(**write([_annotation()]))
    assert [name for name, value in vars(data).items() if type(value) in (dict, list)] == ["notes"]
    assert isinstance(data.file_names, Names)


OUTSIDE = (
    "../x.png", "/etc/x.png", "C:\\x.png", "a\\..\\..\\x.png", "", ".", "..", "a/..", "a/.", "1.png/", "//x/a.png",
    "\\\\x\\y\\a.png", "C:1.png", "c:/1.png", "1\0.png", "1\n.png", "\x7f.png", "\ud800.png", "x/../1.png",
    "x\\..\\1.png", None, 5, ["1.png"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "lacks the list 'categories'"),
        (lambda d: d["categories"].clear(), "its list of categories is empty"),
        (lambda d: d.pop("annotations"), "lacks the list 'annotations'"),
        (lambda d: d.update(images={}), "lacks the list 'images'"),
        (lambda d: d["images"].clear(), "has image_id 1, which `images` does not list"),
        (lambda d: (d["images"].clear(), d["annotations"].clear()), "contains no images"),
        (lambda d: d["images"][0].update(height=0, file_name="../b.json"), "outside the image folder"),
        (lambda d: d["images"][1].update(height=1.5), "has height 1.5: expected an integer"),
        (lambda d: d["images"][1].update(id="2"), "has id '2': expected an integer"),
        (lambda d: d["categories"][1].update(name="train"), "the class 'train' is listed twice .ids 3 and 7."),
        (lambda d: d["categories"][1].update(name=None), "categories record .* has no name: a class is called None"),
        (lambda d: d["images"][1].update(height="30"), "has height '30': expected an integer"),
        (lambda d: d["images"][1].update(id=1), "has the id 1, which another image also uses"),
        (lambda d: d["images"].append(5), "images record 5 lacks the key 'id'"),
        *((lambda d, name=name: d["images"][0].update(file_name=name), "outside the image folder") for name in OUTSIDE),
        (lambda d: d["categories"][0].pop("name"), "categories record .* lacks the key 'name'"),
        (lambda d: d["categories"].append(CATEGORIES[0]), "has the id 7, which another category also uses"),
        (
            lambda d: d["annotations"][0].update(category_id=4),
            r"unknown category_id 4: .*2 categories.*\[3, 7\]",
        ),
        (lambda d: d["annotations"][0].update(image_id=77), "image_id 77, which `images` does not list"),
        (lambda d: d["annotations"][0].pop("bbox"), "annotations record .* lacks the key 'bbox'"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), r"bbox \[1, 2, 3\]: expected four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "expected four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, "4"]), "expected four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=None), "expected four finite numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 10**400]), "expected four finite numbers"),
        (lambda d: d["annotations"][0].update(image_id=2**63), "expected an integer"),
        (lambda d: d["annotations"][0].update(area="big"), "area 'big': expected a number"),
        (lambda d: d["annotations"][0].update(area=10**400), "expected a number"),
        (lambda d: d["annotations"][0].update(iscrowd="no"), "iscrowd 'no': expected 0 or 1"),
    ],
)
def test_broken_annotations(write, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        CocoDetection(**write([_annotation()], change=change))
    assert "a.json" in str(caught.value)


@pytest.mark.parametrize("listed", ["/home/x/images/1.png", "C:\\x\\1.png", "../../upload/1.png"])
def test_the_remedy_for_a_path_of_another_machine(write, listed):
    with pytest.raises(
        ValueError, match=r"outside the image folder: .*Remedy: write '1\.png', which exists in .*images"
    ):
        CocoDetection(**write([_annotation()], change=lambda data: data["images"][0].update(file_name=listed)))


def test_the_official_layout_may_have_a_folder_images(write, tmp_path):
    write([_annotation()])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "a.json").rename(tmp_path / "annotations/instances_train2017.json")
    (tmp_path / "images").rename(tmp_path / "train2017")
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images/train2017")
    assert len(CocoDetection(root=tmp_path)) == 2


def test_boxes_that_are_fractions(write):
    fractions = [_annotation(bbox=(0.25, 0.5, 0.5, 0.5)), _annotation(bbox=(0, 0, 0.1, 0.3))]
    with pytest.raises(ValueError, match=r"a\.json: no box extends beyond the first pixel .* \[0\.25, 0\.5, 0\.75, 1"):
        CocoDetection(**write(fractions))
    for boxes in ([*fractions, _annotation()], [_annotation(bbox=(0, 0, 1, 1))]):
        CocoDetection(**write(boxes))


@pytest.mark.parametrize("sizes", [{"height": 0, "width": 0}, {"height": None, "width": float("nan")}, {}])
def test_sizes_are_read_from_the_picture_where_there_are_none(write, sizes):
    def change(data):
        for image in data["images"]:
            del image["height"], image["width"]
            image.update(sizes)

    paths = write([_annotation()], change=change)
    data = CocoDetection(**paths)
    assert (data.heights.tolist(), data.widths.tolist()) == ([30, 30], [40, 40])
    (paths["images"] / "2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2\.png.* has no size: expected width.* and the picture's cannot be read"):
        CocoDetection(**paths)
    (paths["images"] / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* missing"):
        CocoDetection(**paths)


def test_numbers_and_names_as_other_tools_write_them(write):
    """pandas writes integers as floats, and programs on Windows write backslashes."""

    def change(data):
        for record in (*data["images"], *data["annotations"], *data["categories"]):
            record.update({key: float(value) for key, value in record.items() if type(value) is int})
        for image in data["images"]:
            image["file_name"] = f"sub\\{image['file_name']}"

    paths = write([_annotation(id=5, iscrowd=0)], change=change)
    (paths["images"] / "sub").mkdir()
    for path in paths["images"].glob("*.png"):
        path.rename(path.parent / "sub" / path.name)
    paths["annotations"].write_bytes(b"\xef\xbb\xbf" + paths["annotations"].read_bytes())
    data = CocoDetection(**paths)
    assert (data.file_names.tolist(), data.image_ids.tolist()) == (["sub/1.png", "sub/2.png"], [1, 2])
    assert data.labels.source_ids == {1: 3, 2: 7}
    assert list(read_truth(paths["annotations"])[1]) == [1, 2]
    assert len(data.read(0).boxes) == 1


def test_one_file_under_several_ids_is_told(write):
    again = {"id": 9, "file_name": "1.png", "height": 30, "width": 40}
    data = CocoDetection(**write([_annotation(9)], change=lambda d: d["images"].append(again)))
    assert data.notes[1].startswith("1 of 3 records list an image again, such as 1.png (2 times)")


def test_the_project_that_roboflow_lists_as_a_category(write):
    categories = [
        {"id": 0, "name": "cell", "supercategory": "none"}, {"id": 3, "name": "cell", "supercategory": "cell"},
    ]  # fmt: skip
    data = CocoDetection(**write([_annotation()], change=lambda d: d.update(categories=categories)))
    assert data.labels.names == {1: "cell (none)", 2: "cell"}


def test_a_report_gets_every_fault_and_the_rest_is_read(write):
    def change(data):
        data["images"][1]["width"] = 0
        data["images"].append({**data["images"][0], "file_name": "3.png"})
        data["categories"].append({"id": 7, "name": "again"})

    paths = write(
        [_annotation(category_id=5), _annotation(2), _annotation(9), _annotation(bbox=[1]), _annotation()],
        change=change,
    )
    faults: list[Fault] = []
    table = read_coco(paths["annotations"], report=faults.append)
    assert [fault.kind for fault in faults] == [
        "clashing_ids", "no_size", "clashing_ids", "unknown_category", "unknown_image", "unknown_image", "format",
    ]  # fmt: skip
    assert [fault.image for fault in faults[:3]] == ["", "2.png", "3.png"]
    assert (table.file_names.tolist(), table.image.tolist(), table.slots.tolist()) == (["1.png"], [0], [1])


def test_files_that_are_missing_or_no_json(write, tmp_path):
    files = write([_annotation()])
    with pytest.raises(FileNotFoundError, match=r"annotation file not found: .*b\.json"):
        CocoDetection(tmp_path / "b.json", files["images"])
    with pytest.raises(FileNotFoundError, match=r"image folder not found: .*other"):
        CocoDetection(files["annotations"], tmp_path / "other")
    with pytest.raises(
        FileNotFoundError, match=r"instances_val2017\.json.*official layout below .* for split 'val2017'"
    ):
        CocoDetection(root=tmp_path, split="val2017")
    with pytest.raises(ValueError, match="set either root"):
        CocoDetection(root=tmp_path, annotations=files["annotations"])
    with pytest.raises(ValueError, match="limit=0"):
        CocoDetection(**files, limit=0)
    with pytest.raises(ValueError, match=r"slots='coco91'|unknown slots 'x'"):
        CocoDetection(**files, slots="x")
    (tmp_path / "images/1.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 images that .*a\.json lists are missing in .*images, the first ones: 1\.png"
    ):
        CocoDetection(**files)
    for text, message in (
        ("{,}", "is not valid JSON"),
        ("[1]", "expected an object.*found a list"),
        ("\x00", "is not valid JSON"),
        ("[" * 99999, "is not valid JSON"),
    ):
        files["annotations"].write_text(text)
        with pytest.raises(ValueError, match=message):
            CocoDetection(**files)


def test_images_in_sub_folders(write):
    files = write(change=lambda d: [i.update(file_name=f"deep/x/{i['file_name']}") for i in d["images"]])
    with pytest.raises(FileNotFoundError, match=r"2 of 2 images .*deep/x/1\.png, deep/x/2\.png"):
        CocoDetection(**files)
    (files["images"] / "deep/x").mkdir(parents=True)
    for path in files["images"].glob("*.png"):
        path.rename(path.parent / "deep/x" / path.name)
    assert CocoDetection(**files).read(1).image_id == 2


def test_names_of_folders_are_missing_images(write):
    files = write([_annotation()])
    (files["images"] / "1.png").unlink()
    (files["images"] / "1.png").mkdir()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* the first ones: 1\.png"):
        CocoDetection(**files)


def test_a_users_own_link_may_lead_elsewhere(write, tmp_path):
    files = write([_annotation()])
    (files["images"] / "1.png").rename(tmp_path / "elsewhere.png")
    (files["images"] / "1.png").symlink_to(tmp_path / "elsewhere.png")
    assert CocoDetection(**files).read(0).image.shape == (30, 40, 3)


def test_image_errors_name_the_file(write):
    files = write([_annotation()])
    data = CocoDetection(**files)
    cv2.imwrite(str(files["images"] / "2.png"), np.zeros((40, 30, 3), np.uint8))
    with pytest.raises(ValueError, match=r"2\.png decodes to 30x40.*a\.json says 40x30.*EXIF"):
        data.read(1)
    (files["images"] / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        data.read(1)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_ground_truth_is_pycocotools(data_root, split):
    from pycocotools.coco import COCO

    data = CocoDetection(root=data_root / "coco_mini", split=split, slots="coco91")
    official = COCO(str(data.annotations))
    assert set(data.image_ids.tolist()) == set(official.getImgIds())
    for index in range(0, len(data), 7):
        sample = data.read(index)
        truth = official.imgToAnns[sample.image_id]
        found = sample.ground_truth
        assert found["boxes_xywh"].tolist() == [list(map(float, a["bbox"])) for a in truth]
        assert found["labels"].tolist() == [a["category_id"] for a in truth]
        assert found["area"].tolist() == [a["area"] for a in truth]
        assert found["crowd"].tolist() == [bool(a["iscrowd"]) for a in truth]
        assert len(sample.boxes) + len(sample.crowd_boxes) == len(truth)
        np.testing.assert_allclose(
            sample.boxes, xywh_to_xyxy(found["boxes_xywh"][~found["crowd"]]), atol=0.51, rtol=1e-6
        )


@pytest.mark.parametrize("listed", [r"sub\1.png", "sub/1.PNG", "./sub/1.png", "Sub/1.png", "s%75b/1.png", "gone/1.png"])
def test_a_file_name_in_another_spelling_is_read_and_said(write, listed):
    paths = write([_annotation()], change=lambda data: data["images"][0].update(file_name=listed))
    (paths["images"] / "sub").mkdir()
    (paths["images"] / "1.png").rename(paths["images"] / "sub" / "1.png")
    if listed == "gone/1.png":
        with pytest.raises(FileNotFoundError, match=r"1 of 2 images that .* lists are missing"):
            CocoDetection(**paths)
        return
    data = CocoDetection(**paths)
    assert data.read(0).image.shape == (30, 40, 3)
    assert listed.startswith("./") or any(
        f"{listed!r}; sub/1.png is read, which differs only in spelling" in note for note in data.notes
    )
