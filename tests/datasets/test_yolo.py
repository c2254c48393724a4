"""YOLO's layouts and lines: what a data.yaml may say, where label files lie, and every complaint."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pocketvision.datasets.annotations.faults import Fault
from pocketvision.datasets.annotations.yolo_layout import label_name
from pocketvision.datasets.labels import coco_labels
from pocketvision.datasets.yolo import YoloDetection

NAMES = "names: [cat, dog]\n"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, np.zeros((30, 40, 3), np.uint8))[1].tofile(path)


def data_set(root: Path, yaml: str = f"train: images/train\nval: images/val\n{NAMES}", **labels: str | None) -> Path:
    """An image 40x30 for each label file; `val_NAME` goes into val. The yaml's path."""
    for key, text in labels.items():
        split, name = ("val", key[4:]) if key.startswith("val_") else ("train", key)
        picture(root / f"images/{split}/{name}.jpg")
        (root / f"labels/{split}").mkdir(parents=True, exist_ok=True)
        if text is not None:
            (root / f"labels/{split}/{name}.txt").write_text(text)
    (root / "data.yaml").write_text(yaml, encoding="utf-8")
    return root / "data.yaml"


def test_images_without_lines_or_without_a_file_are_negatives(tmp_path: Path) -> None:
    data = YoloDetection(data_set(tmp_path, a="", b=None, c="\n\n"))
    assert data.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert [len(data.read(i).boxes) for i in range(3)] == [0, 0, 0]
    (tmp_path / "labels/train/a.txt").unlink()
    (tmp_path / "labels/train/c.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"none of the 3 images has a label file, such as .*labels/train/a\.txt"
    ):
        YoloDetection(tmp_path)


def test_lines(tmp_path: Path) -> None:
    text = "1 0.5 0.5 1 1\r\n0 0.25 .5 5e-1 0.2\n1 0.1 0.2 0.3 0.2 0.3 0.6\n0.0 0.5 0.5 0.5 0.5\n"
    data = YoloDetection(data_set(tmp_path, a=text))
    truth = data.ground_truth(0)
    expected = [[0, 0, 40, 30], [0, 12, 20, 6], [4, 6, 8, 12], [10, 7.5, 20, 15]]
    np.testing.assert_allclose(truth["boxes_xywh"], expected, atol=1e-9)
    assert truth["labels"].tolist() == [2, 1, 2, 1]
    assert not truth["crowd"].any()
    assert data.labels.names == {1: "cat", 2: "dog"}
    assert data.labels.source_ids == {1: 1, 2: 2}  # as COCO counts
    assert data.notes[-1] == "1 polygon: bounding boxes are used"


def test_keypoints_are_no_outline(tmp_path: Path) -> None:
    yaml = f"train: images/train\nkpt_shape: [2, 2]\n{NAMES}"
    data = YoloDetection(data_set(tmp_path, yaml, a="0 0.5 0.5 0.5 0.5 0.9 0.9 0.1 0.1"))
    assert data.ground_truth(0)["boxes_xywh"].tolist() == [[10, 7.5, 20, 15]]


@pytest.mark.parametrize(
    ("shape", "line", "told"),
    [
        ("[2, 3]", "0 .5 .5 .5 .5 .9 .9 .1 .1", r"a\.txt, line 1 has 8 numbers after the class, but kpt_shape says 10"),
        ("[1, 2]", "0 .5 .5 .5 .5 .9 .9 .1 .1", "8 numbers after the class, but kpt_shape says 6"),
        ("17", "0 .5 .5 .5 .5", r"kpt_shape is 17: expected \[points, 2\] or \[points, 3\]"),
        ("[2, 4]", "0 .5 .5 .5 .5", r"kpt_shape is \[2, 4\]"),
    ],
)
def test_kpt_shape_is_what_the_lines_have(tmp_path: Path, shape: str, line: str, told: str) -> None:
    yaml = f"train: images/train\nkpt_shape: {shape}\n{NAMES}"
    with pytest.raises(ValueError, match=told):
        YoloDetection(data_set(tmp_path, yaml, a=line))


def _landmarks(rng: np.random.Generator, points: int) -> str:
    size = rng.uniform(0.1, 0.4, 2)
    corner = rng.uniform(0, 1 - size)
    numbers = [*corner + size / 2, *size, *(corner + size * rng.random((points, 2))).ravel()]
    return " ".join(["0", *(f"{number:.4f}" for number in numbers)])


@pytest.mark.parametrize("points", [4, 5, 17])
def test_landmarks_are_no_outline(tmp_path: Path, points: int) -> None:
    rng = np.random.default_rng(points)
    lines = [_landmarks(rng, points) for _ in range(12)]
    with pytest.raises(ValueError, match=rf"a\.txt, line 1 .*box around.*kpt_shape: \[{points}, 2\]"):
        YoloDetection(data_set(tmp_path, a="\n".join(lines[:5]), b="\n".join(lines[5:])))
    faults: list[Fault] = []
    YoloDetection(tmp_path, report=faults.append)
    assert [(fault.kind, Path(fault.path).name) for fault in faults] == [("format", "a.txt")]
    with pytest.raises(ValueError, match=r"expected fractions|box around"):
        YoloDetection(data_set(tmp_path, a=lines[0].rsplit(" ", 2)[0] + " -1 -1\n" + "\n".join(lines)))
    read = YoloDetection(data_set(tmp_path, f"train: images/train\nkpt_shape: [{points}, 2]\n{NAMES}", a=lines[0]))
    _, _, _, w, h, *_ = map(float, lines[0].split())
    np.testing.assert_allclose(read.ground_truth(0)["boxes_xywh"][0, 2:], [w * 40, h * 30])


def test_outlines_are_no_landmarks(tmp_path: Path) -> None:
    """Also where all have as many corners."""
    rng = np.random.default_rng(0)
    lines = []
    for corners in (4, 5, 7, 12):
        for i in range(60):
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) * (-1) ** i + rng.uniform(0, 6)
            center, size = rng.uniform(0.3, 0.7, 2), rng.uniform(0.02, 0.29, 2)
            outline = center + size * np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.7, 1, (corners, 1))
            lines.append(" ".join(map(str, [0, *outline.ravel()])))
        read = YoloDetection(data_set(tmp_path, a="\n".join(lines[-60:]), b="0 .1 .1 .9 .1 .5 .9"))
        assert read.notes[-1].startswith("61 polygons")
        one_length = YoloDetection(data_set(tmp_path, a="\n".join(lines[-60:]), b="0 .5 .5 .1 .1"))
        assert one_length.notes[-1].startswith("60 polygons")


def test_tracks_are_no_outlines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a confidence and a track, no outline"):
        YoloDetection(data_set(tmp_path, a="0 .5 .5 .2 .2 .93 1\n1 .4 .5 .2 .2 .8 0\n"))


def test_sizes_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    path = data_set(tmp_path, a="0 0.5 0.5 1 0.5")
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "images/train/a.jpg", exif=exif)
    data = YoloDetection(path)
    assert data.read(0).image.shape == (40, 30, 3)
    assert data.ground_truth(0)["boxes_xywh"].tolist() == [[0, 10, 30, 20]]


@pytest.mark.parametrize(
    ("yaml", "train", "val"),
    [
        (f"train: images/train\nval: images/val\n{NAMES}", "ab", "c"),
        ("train: images/train\nval: images/val\nnames: {0: cat, 1: dog}\nnc: 2\n", "ab", "c"),
        ("train: images/train\nval: images/val\nnames: {'0': cat, '1': dog}\nnc: '2'\n", "ab", "c"),
        (f"path: .\ntrain: images/train\nval: images/val\n{NAMES}", "ab", "c"),
        (f"path: ROOT\ntrain: images/train\nval: images/val\n{NAMES}", "ab", "c"),
        (
            f"path: ../datasets/mine\ntrain: images/train\nval: images/val\n{NAMES}",
            "ab",
            "c",
        ),  # Ultralytics' own folder
        (f"path: /content/mine\ntrain: images/train\nval: images/val\n{NAMES}", "ab", "c"),  # of another machine
        (f"train: ../images/train\nval: ../images/val\n{NAMES}", "ab", "c"),  # as Roboflow exports it
        (f"train: [images/train, images/val]\nval: images/val\n{NAMES}", "abc", "c"),
        (f"Train: images/train\nvalidation: images/val\n{NAMES}", "ab", "c"),
        (f"train: train.txt\nval: lists/val.txt\n{NAMES}", "b", "c"),
        (f"path: images\ntrain: train\nval: val\n{NAMES}", "", ""),  # then labels lie beside their images
        ("train: images/train\nval: images/val\nnc: 2\n", "ab", "c"),
        (f"train: images\\train\nval: .\\images\\val\n{NAMES}", "ab", "c"),
        (f"path: .\ntrain: ..\\images\\train\nval: ..\\images\\val\n{NAMES}", "ab", "c"),
        (f"train: lists\\train.txt\nval: lists\\val.txt\n{NAMES}", "b", "c"),
        (f"train: /content/mine-3/images/train\nval: /content/mine-3/images/val\n{NAMES}", "ab", "c"),
        (f"train: C:\\Users\\x\\mine\\images\\train\nval: C:/x/images/val\n{NAMES}", "ab", "c"),
        (f"path: /content/mine\ntrain: /content/mine/images/train\nval: \\mine\\images\\val\n{NAMES}", "ab", "c"),
    ],
)
def test_what_a_yaml_may_say(tmp_path: Path, yaml: str, train: str, val: str) -> None:
    root = tmp_path / "mine"
    path = data_set(root, yaml.replace("ROOT", str(root)), a="1 .5 .5 .1 .1", b="1 .5 .5 .1 .1", val_c="0 .5 .5 .1 .1")
    (root / "train.txt").write_text("./images/train/b.jpg\n\n")
    (root / "lists").mkdir()
    (root / "lists" / "val.txt").write_text("images/val/c.jpg\n")
    (root / "lists" / "train.txt").write_text("images\\train\\b.jpg\n")
    for split, expected in (("train", train), ("val", val)):
        if not expected:
            with pytest.raises(FileNotFoundError, match=r"none of the . images has a label file"):
                YoloDetection(path, split=split)
            continue
        data = YoloDetection(path, split=split)
        assert "".join(Path(name).stem for name in data.file_names) == expected
        assert len(data.ground_truth(0)["labels"]) == 1


def test_exports_of_cvat(tmp_path: Path) -> None:
    """One list of another name, or darknet's obj.names."""
    path = data_set(tmp_path, f"path: .\ndefault: default.txt\n{NAMES}", a="0 .5 .5 .1 .1", b="1 .5 .5 .1 .1")
    (tmp_path / "default.txt").write_text("images/train/a.jpg\nimages/train/b.jpg\n")
    train, val = (YoloDetection(path, split=split, holdout=0.5) for split in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == [1, 2]
    path.unlink()
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    assert YoloDetection(tmp_path).labels.names == {1: "cat", 2: "dog"}


def test_a_path_of_another_machine_is_told(tmp_path: Path) -> None:
    path = data_set(tmp_path, f"train: /content/images/train\n{NAMES}", a="0 .5 .5 .1 .1")
    assert "train is '/content/images/train', which does not exist here: " in YoloDetection(path).notes[1]


@pytest.mark.parametrize(
    "names", ["[on, off]", "{0: yes, 1: no}", "[null, ~]", "[010, 1.50]", "[2024-01-01, 1_000]", "\n- TRUE\n- .inf"]
)
def test_names_are_the_words_as_written(tmp_path: Path, names: str) -> None:
    path = data_set(tmp_path, f"train: images/train\nval: null\nnc: 2\nnames: {names}\n", a="0 .5 .5 .1 .1")
    words = [word.strip() for word in re.findall(r"[^\[\]{},\n]+", names)]
    expected = [word.removeprefix("- ").removeprefix("0: ").removeprefix("1: ") for word in words]
    assert list(YoloDetection(path).labels.names.values()) == expected


def test_a_folder_in_place_of_the_yamls_path(tmp_path: Path) -> None:
    data_set(tmp_path / "images here", a="0 .5 .5 .1 .1")
    (tmp_path / "x.yaml").write_text(f"path: {tmp_path}/images here\ntrain: images/train\n{NAMES}")
    assert len(YoloDetection(tmp_path / "x.yaml")) == 1  # below the yaml
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x.yaml").rename(tmp_path / "elsewhere/x.yaml")
    with pytest.raises(FileNotFoundError, match=r"x\.yaml: path is .*outside the yaml's own.*data\.folder=FOLDER"):
        YoloDetection(tmp_path / "elsewhere")
    assert len(YoloDetection(tmp_path / "elsewhere", folder=tmp_path / "images here")) == 1
    with pytest.raises(ValueError, match=r"replaces a data\.yaml's path, but"):
        YoloDetection(tmp_path / "images here/images", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*nowhere"):
        YoloDetection(tmp_path / "elsewhere/x.yaml", folder=tmp_path / "nowhere")


def test_without_a_split_for_validation_some_are_held_out(tmp_path: Path) -> None:
    path = data_set(tmp_path, f"train: images/train\nval:\n{NAMES}", **{f"i{i}": "0 .5 .5 .1 .1" for i in range(9)})
    train, val = (YoloDetection(path, split=split, holdout=0.3) for split in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == list(range(1, 10))
    assert 0 < len(val) < len(train)
    assert "held out" in train.notes[-1]
    with pytest.raises(ValueError, match="has no validation split: set holdout"):
        YoloDetection(path, split="val")
    with pytest.raises(ValueError, match="holdout=x: expected the fraction"):
        YoloDetection(path, holdout="x")


@pytest.mark.parametrize("names", [("train", "val"), ("train2017", "val2017"), ("Train", "valid")])
@pytest.mark.parametrize("where", ["{0}", "{0}/images", "images/{0}", "{0}/both", "Images/{0}"])
def test_folders_without_a_yaml(tmp_path: Path, where: str, names: tuple[str, str]) -> None:
    for split, name in zip(names, "ab", strict=True):
        image = where.format(split).replace("/both", "") + f"/{name}.jpg"
        picture(tmp_path / image)
        label = tmp_path / label_name(image)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("1 0.5 0.5 0.5 0.5")
    with pytest.raises(FileNotFoundError, match=r"neither data\.yaml nor classes\.txt"):
        YoloDetection(tmp_path)
    for split, name in (("train", "a"), ("val", "b")):
        data = YoloDetection(tmp_path, split=split, classes=["cat", "dog"])
        assert [Path(name).stem for name in data.file_names] == [name]
        assert data.ground_truth(0)["labels"].tolist() == [2]


def test_folders_whose_split_is_unclear_or_not_for_training(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / f"images/{split}/{split}.jpg")
        (tmp_path / f"labels/{split}").mkdir(parents=True)
        (tmp_path / f"labels/{split}/{split}.txt").write_text("1 0.5 0.5 0.5 0.5")
    assert YoloDetection(tmp_path, classes=["cat", "dog"]).file_names.tolist() == ["train.jpg"]
    for name in ("valid", "Validation"):
        (tmp_path / "images" / name).mkdir()
    with pytest.raises(ValueError, match=r"images: Validation and valid may both be the split 'val': rename one"):
        YoloDetection(tmp_path, classes=["cat", "dog"])


def test_all_in_one_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.c.png", "sub/d.jpg"):
        picture(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("1 0.5 0.5 0.5 0.5")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert YoloDetection(tmp_path).file_names.tolist() == ["a.jpg", "b.c.png", "sub/d.jpg"]
    assert len(YoloDetection(tmp_path, split="val", holdout=0.3)) >= 1
    (tmp_path / "txt").mkdir()
    (tmp_path / "a.txt").rename(tmp_path / "txt" / "a.txt")
    data = YoloDetection(tmp_path, annotations=tmp_path / "txt", classes=["x", "y"])
    assert [len(data.ground_truth(i)["labels"]) for i in range(3)] == [1, 0, 0]
    (tmp_path / "sub/d.txt").rename(tmp_path / "txt" / "d.txt")
    data = YoloDetection(tmp_path, annotations=tmp_path / "txt", classes=["x", "y"])
    assert [len(data.ground_truth(i)["labels"]) for i in range(3)] == [1, 0, 1]


def test_a_link_to_nothing_is_missing(tmp_path: Path) -> None:
    path = data_set(tmp_path, a="1 .5 .5 .1 .1")
    (tmp_path / "images/train/b.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* are missing in .*: b\.jpg"):
        YoloDetection(path)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a.jpg", "a.txt"),
        ("images/a.b.jpg", "labels/a.b.txt"),
        ("images/images/x.y/a.jpg", "images/labels/x.y/a.txt"),
        ("train/images/sub/a.png", "train/labels/sub/a.txt"),
        ("myimages/a.png", "myimages/a.txt"),
        ("images/Images/a.png", "labels/Images/a.txt"),
        ("Images/a.png", "labels/a.txt"),
    ],
)
def test_where_a_label_file_lies(image: str, label: str) -> None:
    assert label_name(image) == label


def test_classes_are_found_by_name(tmp_path: Path) -> None:
    path = data_set(tmp_path, a="1 0.5 0.5 0.5 0.5")
    data = YoloDetection(path, labels=coco_labels())
    assert (data.labels.num_classes, data.ground_truth(0)["labels"].tolist()) == (80, [17])
    path.write_text("train: images/train\nnames: [cat, hippogriff]\n")
    with pytest.raises(ValueError, match="its classes hippogriff do not match those of the training data"):
        YoloDetection(path, labels=coco_labels())
    faults: list[Fault] = []
    assert len(YoloDetection(path, labels=coco_labels(), report=faults.append).table.slots) == 0
    assert [fault.kind for fault in faults] == ["other_classes"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("", "is not a data.yaml: expected the keys path, train, val, names"),
        ("[1]", "is not a data.yaml: expected the keys"),
        ("{", "is not a data.yaml: "),
        ("[" * 200_000, "is not a data.yaml: .*(more than 16 levels deep|nesting depth)"),
        ("- " * 99, "more than 16 levels"),
        ("a: !!python/object/apply:os.abort []", "is not a data.yaml: could not determine a constructor"),
        (f"a: &a [x]\nb: *a\n{NAMES}", "references .* are not supported"),
        ("train: images/train\n", "has no names"),
        ("train: images/train\nnames: []\n", "has no names"),
        ("train: images/train\nnames: {cat: 0}\n", "names has 'cat': expected class numbers"),
        ("train: images/train\nnames: [[1], b]\n", "names has 0: expected class numbers"),
        ("train: images/train\nnames: {0: a, 1: }\n", "names has 1: expected class numbers from 0, each with a name"),
        ("train: images/train\nnames: {0: a, 0: b}\n", "names has '0' twice"),
        ("train: images/train\nnames: [a, a]\n", "the class 'a' is listed twice"),
        (f"train: images/train\nnc: 3\n{NAMES}", "nc is 3, but there are 2 names"),
        (NAMES, "has no 'train'"),
        (f"train: {{a: b}}\n{NAMES}", "train is .*: expected a folder, a list"),
        (f"train: [images/train, 5]\n{NAMES}", "train is .*: expected a folder, a list"),
        (f"train: /etc\n{NAMES}", "train is '/etc', which is outside /"),
        (f"train: ../..\n{NAMES}", r"train is '\.\./\.\.', which is outside /"),
        (f"train: images/trian\n{NAMES}", "trian is neither a folder nor a .txt"),
        (f"train: data.yaml\n{NAMES}", "is neither a folder nor a .txt"),
        (f"path: 5\ntrain: images/train\n{NAMES}", "path is 5: expected a folder"),
        (f"path: here\ntrain: x\n{NAMES}", "path is 'here', a folder that does not exist"),
        (f"path: /etc\ntrain: x\n{NAMES}", "path is '/etc', a folder outside the yaml's own"),
        (f"train: list.txt\n{NAMES}", r"list\.txt lists '/etc/x\.jpg', which is outside /"),
    ],
)
def test_faults_of_a_yaml(tmp_path: Path, yaml: str, message: str) -> None:
    path = data_set(tmp_path, yaml, a="")
    (tmp_path / "list.txt").write_text("/etc/x.jpg\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        YoloDetection(path)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("dog 0.5 0.5 1 1", "format", "expected class cx cy w h"),
        ("0 0.5 0.5 1", "format", "is '0 0.5 0.5 1': expected"),
        ("0", "format", "expected class"),
        ("0 0.5 0.5 1 1 0.9", "format", "expected class.*a confidence or a track"),
        ("0 0.5 0.5 1 1 0.9 17", "not_normalized", "has 17 after a box: .*a confidence or a track"),
        ("0 .5 .5 .4 .4 .4 .4 -1 -1 .5 .6", "not_normalized", "has -1 after a box: .*kpt_shape"),
        ("0 .5 .5 .4 .4 .4 .4 2 .6 .6 2 .5 .5 1", "format", "kpt_shape"),
        ("0.5 0.5 0.5 1 1", "format", "expected class"),
        ("0 nan 0.5 1 1", "format", "expected class"),
        ("0 0.5 0.5 1 1e999", "format", "expected class"),
        ("inf 0.5 0.5 1 1", "format", "expected class"),
        ("2 0.5 0.5 1 1", "unknown_category", "has the unknown class 2: the names are cat, dog"),
        ("-1 0.5 0.5 1 1", "unknown_category", "has the unknown class -1"),
        ("0 20 15 10 10", "not_normalized", "expected fractions of the image's width and height"),
        ("0 0.5 0.5 -0.2 1", "not_normalized", "expected fractions"),
    ],
)
def test_faults_of_a_line(tmp_path: Path, line: str, kind: str, message: str) -> None:
    path = data_set(tmp_path, a=f"0 0.5 0.5 1 1\n{line}\n1 0.5 0.5 1 1\n")
    with pytest.raises(ValueError, match=rf"a\.txt, line 2 .*{message}"):
        YoloDetection(path)
    faults: list[Fault] = []
    table = YoloDetection(path, report=faults.append).table
    assert [(fault.kind, fault.image) for fault in faults] == [(kind, "a.jpg")]
    assert table.slots.tolist() == [1, 2]


def test_faults_of_files(tmp_path: Path) -> None:
    path = data_set(tmp_path, a="0 0.5 0.5 1 1", b="")
    (tmp_path / "labels/train/b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "images/train/c.jpg").write_bytes(b"no picture")
    picture(tmp_path / "images/train/a.png")
    faults: list[Fault] = []
    table = YoloDetection(path, report=faults.append).table
    assert [fault.kind for fault in faults] == ["shared_annotation", "format", "undecodable"]
    assert [Path(name).name for name in table.file_names] == ["a.jpg", "a.png", "b.jpg"]
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8 text"):
        YoloDetection(path)
    (tmp_path / "labels/train/b.txt").unlink()
    with pytest.raises(ValueError, match=r"c\.jpg cannot be decoded"):
        YoloDetection(path)
    (tmp_path / "images/train/c.jpg").unlink()
    assert "belongs to two images that differ in their extension" in YoloDetection(path).notes[-1]
    (tmp_path / "list.txt").write_text("images/train/a.jpg\nimages/train/gone.jpg")
    path.write_text(f"train: list.txt\n{NAMES}")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* missing .*gone\.jpg"):
        YoloDetection(path)


def test_faults_of_a_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found: .*none, expected a data\.yaml"):
        YoloDetection(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"neither data\.yaml nor"):
        YoloDetection(tmp_path)
    path = data_set(tmp_path, a="")
    with pytest.raises(ValueError, match="drop annotations and classes"):
        YoloDetection(path, classes=["x"])
    path.rename(tmp_path / "a.yaml")
    assert len(YoloDetection(tmp_path)) == 1
    (tmp_path / "b.yml").touch()
    with pytest.raises(ValueError, match=r"contains a\.yaml, b\.yml: set root to one"):
        YoloDetection(tmp_path)
    (tmp_path / "b.yml").write_text("#" * 300_000)
    with pytest.raises(ValueError, match=r"b\.yml is larger than 256 kB"):
        YoloDetection(tmp_path / "b.yml")


BOX = "1 0.5 0.5 0.5 0.5"


def _flat(root: Path, *files: str) -> Path:
    """Pictures and label files below a root with a data.yaml of one folder, `images`."""
    for name in files:
        path = root / name
        if path.suffix.lower() == ".txt":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(BOX)
        else:
            picture(root / "any.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((root / "any.png").read_bytes())
    (root / "data.yaml").write_text(f"train: images\nval: images\n{NAMES}")
    return root / "data.yaml"


@pytest.mark.parametrize(
    ("image", "label", "read"),
    [
        ("images/f1.jpg", "labels/f1.TXT", True),
        ("images/f1.jpg", "labels/F1.txt", True),
        ("images/F1.JPG", "labels/f1.txt", True),
        ("images/f1.jpg", "labels/f1.jpg.txt", True),
        ("images/f1.jpg", "images/f1.txt", True),
        ("images/a b.jpg", "labels/a%20b.txt", True),
        ("images/a%20b.jpg", "labels/a b.txt", True),
        ("images/caf\u00e9.jpg", "labels/cafe\u0301.txt", True),
        ("images/sub/f1.jpg", "labels/sub\\f1.txt", True),
        ("images/sub/f1.jfif", "labels/sub/F1.txt", True),
        ("images/f1.jpg", "Labels/f1.txt", True),
        ("images/f1.jpg", "labels/f2.txt", False),
        ("images/f1.raw", "labels/f1.txt", False),
    ],
)
def test_a_label_file_in_another_spelling_is_read_and_said(tmp_path: Path, image: str, label: str, read: bool) -> None:
    path = _flat(tmp_path, "images/other.png", "labels/other.txt", image, label)
    faults: list[Fault] = []
    data = YoloDetection(path, report=faults.append)
    assert len(data.table.slots) == 1 + read
    kinds = {fault.kind for fault in faults}
    assert kinds == ({"near_name"} if read else {"spare_annotation", *["left_out"] * image.endswith("raw")})
    assert any(label in fault.message for fault in faults)
    assert any(label in note for note in YoloDetection(path).notes)


def test_a_label_file_that_may_belong_to_two_images_is_not_read(tmp_path: Path) -> None:
    path = _flat(tmp_path, "images/a.jpg", "images/A.jpg", "labels/a.TXT", "images/b.jpg", "labels/b.txt")
    (tmp_path / "labels/classes.txt").write_text("cat\ndog\n")
    data = YoloDetection(path)
    assert len(data.file_names) == 3
    assert data.ground_truth(2)["labels"].tolist() == [2]
    (note,) = [note for note in data.notes if "belongs to no image" in note]
    assert "a.TXT" in note
    assert "may mean" in note


def test_links_hidden_files_and_resource_forks(tmp_path: Path) -> None:
    _flat(tmp_path / "disk", "images/c.jpg", "labels/c.txt")
    names = ("a.jpg", "._a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg")
    path = _flat(tmp_path / "set", *[f"images/{name}" for name in names], "labels/a.txt")
    (path.parent / "._data.yaml").write_text("Mac OS X")
    (path.parent / "images/day1").symlink_to(tmp_path / "disk/images")
    (path.parent / "images/loop").symlink_to(path.parent)
    (path.parent / "labels/day1").symlink_to(tmp_path / "disk/labels")
    data = YoloDetection(path.parent)
    assert data.file_names.tolist() == ["a.jpg", "day1/c.jpg"]
    assert [len(data.ground_truth(row)["labels"]) for row in range(2)] == [1, 1]
    assert any("1 hidden file (._a.jpg); 1 hidden folder (.ipynb_checkpoints)" in note for note in data.notes)


@pytest.mark.parametrize("line", ["f{0}.png", "C:\\\\Users\\\\x\\\\f{0}.png", "data/images/f{0}.png"])
def test_a_list_of_images_that_are_missing_says_so(tmp_path: Path, line: str) -> None:
    _flat(tmp_path, "images/f0.png", "labels/f0.txt", "images/f1.png", "labels/f1.txt")
    (tmp_path / "data.yaml").write_text(f"train: train.txt\nval: train.txt\n{NAMES}")
    (tmp_path / "train.txt").write_text("".join(f"{line.format(number)}\n" for number in range(2)))
    match = r"2 of 2 images that .*data\.yaml lists are missing .* \(images/f0\.png exists\)\. Are the"
    with pytest.raises(FileNotFoundError, match=match):
        YoloDetection(tmp_path)


def test_a_list_in_another_spelling_is_read(tmp_path: Path) -> None:
    _flat(tmp_path, "images/a b.png", "labels/a b.txt", "images/f1.png", "labels/f1.txt")
    (tmp_path / "data.yaml").write_text(f"train: train.txt\nval: train.txt\n{NAMES}")
    (tmp_path / "train.txt").write_text("images/a%20b.png\nImages\\F1.PNG\n")
    data = YoloDetection(tmp_path)
    assert data.file_names.tolist() == ["images/a b.png", "images/f1.png"]
    assert [len(data.ground_truth(row)["labels"]) for row in range(2)] == [1, 1]
    assert any("differs only in spelling (and 1 more like it)" in note for note in data.notes)


def test_two_folders_one_of_them_with_label_files_beside(tmp_path: Path) -> None:
    _flat(tmp_path, "a/images/1.jpg", "a/labels/1.txt", "b/images/2.jpg", "b/images/2.txt")
    (tmp_path / "data.yaml").write_text(f"train: [a/images, b/images]\nval: a/images\n{NAMES}")
    data = YoloDetection(tmp_path)
    assert [len(data.ground_truth(row)["labels"]) for row in range(2)] == [1, 1]
    assert any("b/images/2.txt is read as the label file of b/images/2.jpg" in note for note in data.notes)
