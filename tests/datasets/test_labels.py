"""Label maps: COCO's and Cityscapes' tables, class lists of any mask folder."""

import json
import time
from typing import Any

import pytest
from pocketvision.datasets.labels import (
    CITYSCAPES,
    CITYSCAPES_TABLE,
    Label,
    LabelMap,
    cityscapes_labels,
    coco_labels,
    detection_labels,
    imagenet_labels,
    instance_sizes,
    segmentation_labels,
    voc_labels,
)


def test_no_classes_is_a_label_map_of_detection():
    labels = detection_labels([])
    assert labels.num_classes == 0
    assert labels.names == {}


def test_coco_slots():
    contiguous, coco91 = coco_labels(), coco_labels("coco91")
    assert (contiguous.num_classes, coco91.num_classes) == (80, 90)
    assert sorted(contiguous.names) == list(range(1, 81))
    assert contiguous.names[80] == coco91.names[90] == "toothbrush"
    assert contiguous.source_ids[12] == 13  # the first hole of COCO's ids
    assert coco91.source_ids == {slot: slot for slot in coco91.names}
    assert coco91.labels[0] == Label(1, "person", 1, "person")


def test_coco_table_is_the_official_one(data_root):
    data = json.loads((data_root / "coco_mini/annotations/instances_val2017.json").read_text())
    official = {row["id"]: (row["name"], row["supercategory"]) for row in data["categories"]}
    assert {label.source_id: (label.name, label.category) for label in coco_labels().labels} == official


def test_cityscapes_table():
    assert CITYSCAPES.num_classes == 19
    assert [label.slot for label in CITYSCAPES.labels] == list(range(19))
    assert list(CITYSCAPES.source_ids.values()) == [*range(7, 9), *range(11, 14), 17, *range(19, 29), 31, 32, 33]
    assert CITYSCAPES.names[18] == "bicycle"
    assert {label.category for label in CITYSCAPES.labels} == {
        "flat", "construction", "object", "nature", "sky", "human", "vehicle",
    }  # fmt: skip
    assert [row[1] for row in CITYSCAPES_TABLE] == [*range(34), -1]


@pytest.mark.parametrize("labels", [coco_labels("coco91"), CITYSCAPES, segmentation_labels(["sky", "road"])])
def test_json_round_trip(labels):
    assert LabelMap.from_json(json.loads(json.dumps(labels.to_json()))) == labels


CVAT = "# label:color_rgb:parts:actions\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "sky\n\nroad\nvoid\n"),
        ("b.csv", "sky\nroad\nvoid\n"),
        ("c.csv", "id,name\n0,sky\n1,road\n2,void\n"),
        ("d.json", '["sky", "road", "void"]'),
        ("e.json", '{"0": "sky", "1": "road", "2": "void"}'),
        ("f.json", '[{"name": "sky"}, {"name": "road"}, {"name": "void"}]'),
        ("labelmap.txt", CVAT + "sky:0,0,0::\nroad:128,0,0:part,other:run\nvoid:::\n"),
        ("labelmap.txt", "sky:0,0,0::\nroad:128,0,0::\nvoid:9,9,9::\n"),
        ("comments.txt", "# my classes\nsky\n#\nroad\n## rest\nvoid\n"),
        ("comments.csv", "# my classes\nname,id\nsky,0\n# more\nroad,1\nvoid,2\n"),
        ("labels.txt", "__ignore__\nsky\nroad\nvoid\n"),  # labelme's
        ("numbers.txt", "0: sky\n1: road\n2: void\n"),
        ("darknet.names", "sky\nroad\nvoid\n"),
        ("_classes.csv", "Pixel Value, Class\n0, sky\n1, road\n2, void\n"),  # Roboflow's
        ("one_column.csv", "class\nsky\nroad\nvoid\n"),
        ("meta.json", '{"classes": [{"title": "sky", "color": "#010203"}, {"title": "road"}, {"title": "void"}]}'),
        ("colors.json", '{"sky": [1, 1, 1], "road": [2, 2, 2], "void": [3, 3, 3]}'),  # Supervisely's, both
        ("numbers.json", '{"sky": 0, "void": 2, "road": 1}'),
        ("config.json", '{"id2label": {"0": "sky", "1": "road", "2": "void"}}'),  # Hugging Face's
        ("ids.json", '{"classes": [{"title": "sky", "id": 5533}, {"title": "road", "id": 7}, {"title": "void"}]}'),
        ("semicolons.csv", "name;r;g;b\nsky;0;0;0\nroad;1;1;1\nvoid;2;2;2\n"),
        ("tabs.csv", "id\tname\n0\tsky\n1\troad\n2\tvoid\n"),
    ],
)
def test_class_files(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert segmentation_labels(tmp_path / name).names == {0: "sky", 1: "road", 2: "void"}
    without_void = segmentation_labels(tmp_path / name, ignore_ids=[2])
    assert (without_void.names, without_void.num_classes) == ({0: "sky", 1: "road"}, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_colors.txt", "128 64 128 road\n70\t130 180\tblue sky\n"),  # CamVid's
        ("colormap.txt", "road 128 64 128\nblue sky 70 130 180\n"),
        ("a.json", '[{"name": "road", "color": "rgb(128, 64, 128)"}, {"name": "blue sky", "color": "#4682b4"}]'),
    ],
)
def test_colors_of_class_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    labels = segmentation_labels(tmp_path / name).labels
    assert [(label.name, label.color) for label in labels] == [("road", (128, 64, 128)), ("blue sky", (70, 130, 180))]


def test_class_file_with_colours_and_other_numbers(tmp_path):
    (tmp_path / "classes.csv").write_text(
        "name,id,r,g,b,category\nroad, 7, 128, 64, 128, flat\nsky, 23, 70, 130, 180,\n"
    )
    assert segmentation_labels(tmp_path / "classes.csv").labels == (
        Label(0, "road", 7, "flat", (128, 64, 128)),
        Label(1, "sky", 23, None, (70, 130, 180)),
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "a.json is not a class list"),
        ("a.json", "[1, 2]", "neither a name nor"),
        ("a.csv", "sky,1\nroad,2\n", "several columns need a header"),
        ("a.csv", "name,id\nsky\n", "a.csv is not a class list"),
        ("a.yaml", "- sky", "expected .txt, .csv or .json"),
        ("a.txt", "", "it lists no names"),
        ("a.txt", "sky,road,car\n", "it has one line with commas. Remedy: write one name per line"),
        ("a.txt", "#classes\nsky\n", "'#classes' may be a comment or a name"),
        ("a.txt", "Idx\tName\n1\twall\n", "several columns"),
        ("a.txt", CVAT + "sky:0,0,0::\nroad\n", "labelmap.txt, but not all lines"),
        ("a.txt", "sky\nroad\nsky\n", r"'sky' is listed twice \(ids 0 and 2\)"),
        ("a.json", '{"0": true}', "a class is called True.*quote"),
        ("a.json", '["sky", ""]', "a class is called ''"),
        ("a.csv", "name,id\nsky,1\nroad,1\n", "source_id must be unique.*twice: .1."),
    ],
)
def test_broken_class_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        segmentation_labels(tmp_path / name)


def test_ids_of_files(tmp_path):
    for name, text in (("a.txt", "1 wall\n2 sky\n"), ("a.csv", "Pixel Value,Class\n1,wall\n2,sky\n")):
        (tmp_path / name).write_text(text)
        assert segmentation_labels(tmp_path / name).source_ids == {0: 1, 1: 2}
    (tmp_path / "a.txt").write_text("4 door\n2 door\n# 1\n")  # no numbers, but names
    assert segmentation_labels(tmp_path / "a.txt").names == {0: "4 door", 1: "2 door"}


@pytest.mark.parametrize("names", [[True, False], [None, "sky"], ["sky", ""], ["sky", "road", "sky"]])
def test_lists_of_no_names(names):
    with pytest.raises(ValueError, match=r"a class is called .*quote|'sky' is listed twice"):
        segmentation_labels(names)


def test_two_classes_of_one_name():
    with pytest.raises(ValueError, match=r"'cell' is listed twice \(ids 1 and 4\)"):
        detection_labels([(1, "cell", None), (2, "dust", None), (4, "cell", None)])


def test_other_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"class list not found.*none\.txt"):
        segmentation_labels(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="unknown slots 'coco90'"):
        coco_labels("coco90")
    with pytest.raises(ValueError, match=r"ids \[0, 91\] are outside.*contiguous"):
        detection_labels([(0, "a", None), (91, "b", None)], slots="coco91")
    with pytest.raises(ValueError, match="does not fit 1 class:"):
        LabelMap((Label(2, "a", 2),), 1)


def test_voc_has_its_palette() -> None:
    labels = voc_labels()
    assert labels.num_classes == len(labels.labels) == 21
    colors = {label.name: label.color for label in labels.labels}
    wanted = {"background": (0, 0, 0), "aeroplane": (128, 0, 0), "person": (192, 128, 128), "tvmonitor": (0, 64, 128)}
    assert wanted.items() <= colors.items()


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"labels": 3, "num_classes": 1},
        {"labels": [3], "num_classes": 1},
        {"labels": [{"slot": "0", "name": "a", "source_id": 0}], "num_classes": 1},
        {"labels": [{"slot": 0, "name": 1, "source_id": 0}], "num_classes": 1},
        {"labels": [{"slot": 0, "name": "a", "source_id": 0, "x": 1}], "num_classes": 1},
        {"labels": [{"slot": 0, "name": "a", "source_id": 0, "color": [1]}], "num_classes": 1},
        {"labels": [{"slot": 0, "name": "a", "source_id": 0}], "num_classes": [1]},
    ],
)
def test_what_is_no_label_map(data: Any) -> None:
    with pytest.raises(ValueError, match="not a label map"):
        LabelMap.from_json(data)


def test_imagenet() -> None:
    labels = imagenet_labels()
    assert (labels.num_classes, labels.names[0], labels.names[999]) == (1000, "tench", "toilet tissue")
    assert len(set(labels.names.values())) == 1000
    shifted = imagenet_labels(background=True)
    assert (shifted.num_classes, shifted.names[0], shifted.names[1000]) == (1001, "background", "toilet tissue")


def test_instance_sizes_are_of_cityscapes_own_classes() -> None:
    assert instance_sizes(coco_labels()) == {}  # it has cars, too
    sizes = instance_sizes(cityscapes_labels())
    assert {slot: number for slot, (number, _) in sizes.items()} == {
        slot: number for slot, number in cityscapes_labels().source_ids.items() if number >= 24
    }
    assert sizes[13] == (26, 12794.0202738185)
    assert instance_sizes(LabelMap.from_json(cityscapes_labels().to_json())) == sizes


def test_many_classes_are_counted_in_time() -> None:
    start = time.monotonic()
    labels = LabelMap(tuple(Label(i, f"class {i}", i) for i in range(20_000)), 20_000)
    with pytest.raises(ValueError, match=r"each source_id must be unique .*: \[3\]"):
        LabelMap((*labels.labels[:4], Label(5, "again", 3)), 6)
    assert time.monotonic() - start < 2
